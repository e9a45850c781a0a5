"""Tools from commands: names, arguments, and the command line that a call stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from inspect import isclass
from typing import Any, Final

CHANGED: Final = "confirm"
"""The argument of a tool that changes something: what it changes, said once more."""
READS: Final = frozenset(
    {
        "backup verify",
        "brokers balance",
        "brokers leader-broker",
        "brokers list",
        "brokers namespaces",
        "cluster status",
        "dead-letters browse",
        "doctor",
        "events",
        "metrics",
        "namespaces list",
        "namespaces policies",
        "namespaces topics",
        "schemas check",
        "schemas get",
        "schemas get-compatibility",
        "schemas list-subjects",
        "schemas versions",
        "security bindings get",
        "security bindings list",
        "security keys list",
        "security roles get",
        "security roles list",
        "top",
        "topics describe",
        "topics get-dispatch-config",
        "topics get-failure-policy",
        "topics get-schema-config",
        "topics list",
        "topics policies",
        "topics segments",
        "topics subscriptions",
    }
)
"""What changes nothing. A command that is not here counts as one that does."""
LEFT_OUT: Final = frozenset(
    {"mcp", "security keys create", "security tokens create", "security tokens validate"}
)
"""The server itself, and what handles secrets, which is for people."""
UNASKED: Final = frozenset({"endpoint", "help", "once", "output", "seconds", "yes"})
"""Options that the server sets."""
ENDS: Final = {"events": ["--seconds=5"], "top": ["--once"]}
"""What makes a command end by itself that otherwise goes on until Ctrl-C."""
TYPES: Final = {bool: "boolean", int: "integer", float: "number"}


class WrongArguments(Exception):
    """The arguments of a call are none of the tool's, lack one, or do not confirm it; the text says which."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument or option of a command. `flag` is its option; an argument by place has none."""

    name: str
    flag: str | None
    schema: Mapping[str, Any]
    required: bool

    def words(self, value: Any) -> list[str]:
        """Return how a value is written on the command line."""
        values = value if isinstance(value, list) else [value]
        if self.flag is None:
            return [str(one) for one in values]
        if isinstance(value, bool):
            return [self.flag] if value else []
        return [f"{self.flag}={one}" for one in values]


@dataclass(frozen=True, slots=True)
class Tool:
    """One command."""

    words: tuple[str, ...]
    text: str
    arguments: tuple[Argument, ...]
    can_be_silent: bool

    @property
    def name(self) -> str:
        """``topics list`` is ``topics_list``."""
        return "_".join(self.words).replace("-", "_")

    @property
    def changes(self) -> bool:
        """Whether the command may change something."""
        return " ".join(self.words) not in READS

    def subject(self, given: Mapping[str, Any]) -> str:
        """Return what a call changes: its first argument by place, or the command itself if it has none."""
        by_place = [str(given[one.name]) for one in self.arguments if one.flag is None and one.name in given]
        return by_place[0] if by_place else " ".join(self.words)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        properties = {one.name: dict(one.schema) for one in self.arguments}
        required = [one.name for one in self.arguments if one.required]
        if self.changes:
            told = "what this changes, once more: the first argument, or the tool's command if it has none"
            properties[CHANGED] = {"type": "string", "description": told}
            required.append(CHANGED)
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    def command(self, given: Mapping[str, Any]) -> list[str]:
        """Return the command line that a call stands for, without the program.

        Raises:
            WrongArguments: an argument is unknown or missing, or the call is not confirmed.
        """
        rest = dict(given)
        confirmed = rest.pop(CHANGED, None) if self.changes else None
        known = {one.name: one for one in self.arguments}
        if unknown := sorted(rest.keys() - known.keys()):
            raise WrongArguments(f"{self.name} has no argument {unknown[0]!r}; it takes {', '.join(known)}")
        if missing := [one.name for one in self.arguments if one.required and one.name not in rest]:
            raise WrongArguments(f"{self.name} needs {missing[0]!r}")
        if self.changes and confirmed != self.subject(rest):
            raise WrongArguments(f"{self.name} changes {self.subject(rest)!r}: give that as {CHANGED!r}, too")
        options = self._written(rest, by_place=False)
        places = self._written(rest, by_place=True)
        silent = ["--yes"] if self.can_be_silent else []
        # What begins with a dash behind "--" is no option.
        ends = ENDS.get(" ".join(self.words), [])
        return [*self.words, *ends, *silent, *options, "--output=json", *(["--", *places] if places else [])]

    def _written(self, given: Mapping[str, Any], *, by_place: bool) -> list[str]:
        wanted = (one for one in self.arguments if one.name in given and (one.flag is None) is by_place)
        return [word for one in wanted for word in one.words(given[one.name])]


def tools(root: Any) -> list[Tool]:
    """Return the tools of a command line, a command group of Typer's, in the order of their names."""
    return sorted(_tools(root, ()), key=lambda one: one.words)


def _tools(command: Any, words: tuple[str, ...]) -> Iterator[Tool]:
    inner: Mapping[str, Any] | None = getattr(command, "commands", None)
    if inner is not None:
        for name, one in inner.items():
            yield from _tools(one, (*words, name))
    elif " ".join(words) not in LEFT_OUT and "output" in {one.name for one in command.params}:
        arguments = tuple(
            _argument(one) for one in command.params if not one.hidden and one.name not in UNASKED
        )
        silent = any(one.name == "yes" for one in command.params)
        yield Tool(words, _text(command.help or ""), arguments, silent)


def _text(given: str) -> str:
    """The help without Typer's mark of lines that are kept as they are."""
    return given.replace("\b", "").strip()


def _argument(given: Any) -> Argument:
    kind = given.type_descriptor.annotation
    schema: dict[str, Any] = {"type": TYPES.get(kind, "string")}
    if isclass(kind) and issubclass(kind, Enum):
        schema["enum"] = [one.value for one in kind]
    if given.multiple or given.nargs != 1:
        schema = {"type": "array", "items": schema}
    if given.help:
        schema["description"] = given.help
    by_place = given.opts[0] == given.name
    return Argument(given.name, None if by_place else _longest(given.opts), schema, bool(given.required))


def _longest(options: Sequence[str]) -> str:
    return max(options, key=len)
