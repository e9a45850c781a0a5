"""Options that several commands share, the fields of a dataclass; and other spellings of options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar, get_type_hints

import typer

Value = TypeVar("Value")


def option(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    """Return an option or argument, as typer reads it from a command's signature."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def spelling(*flags: str, **settings: Any) -> Any:
    """Return an option that another Danube has for one of ours: it works, and the help does not show it."""
    return typer.Option(*flags, hidden=True, **settings)


def refused(flag: str, instead: str) -> Any:
    """Return an option of another Danube that ends the command: ``instead`` says what to use. Hidden."""

    def refuse(given: str | None) -> None:
        if given is not None:
            raise typer.BadParameter(instead, param_hint=f"'{flag}'")

    return spelling(flag, callback=refuse, expose_value=False)


def agreed(ours: str, *given: Value | None) -> Value:
    """Return the value that was given under one spelling of an option, or the same one under several.

    Args:
        ours: the spelling that is told to the user.
        given: the values of all spellings, in any order; None is not given.

    Raises:
        typer.BadParameter: there is none, or two differ.
    """
    found = [one for one in given if one is not None]
    if not found:
        raise typer.BadParameter("it is needed", param_hint=f"'{ours}'")
    if any(one != found[0] for one in found):
        raise typer.BadParameter("it is given twice, with different values", param_hint=f"'{ours}'")
    return found[0]


def with_options(function: Callable[..., None], options: list[Parameter]) -> Callable[..., None]:
    """Return ``function``, which takes keywords, as a command with these options."""
    function.__signature__ = Signature(options)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in options}
    return function


def spread(function: Callable[..., None], own: int = 0) -> Callable[..., None]:
    """Return ``function`` as a command: a parameter of a dataclass stands for the options of its fields.

    The first ``own`` parameters stay as they are: the caller gives them, by their names.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters = list(signature(function).parameters.values())
    options = parameters[:own]
    groups: dict[str, type] = {}
    for given in parameters[own:]:
        kind = hints[given.name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[given.name] = kind
            types = get_type_hints(kind, include_extras=True)
            options += [
                option(
                    each.name, types[each.name], Parameter.empty if each.default is MISSING else each.default
                )
                for each in fields(kind)
            ]
        else:
            options.append(option(given.name, kind, given.default))

    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in fields(kind)})
        function(**given)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return with_options(run, options)
