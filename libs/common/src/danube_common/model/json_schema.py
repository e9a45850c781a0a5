"""JSON schemas: compiled within bounds, and the reason why a value does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import jsonschema_rs

from danube_common.errors import UNDECODABLE, InvalidInput
from danube_common.model.json_text import JSON_DEPTH_MAX, JsonTextError, nesting, parse_json
from danube_common.model.schema_graph import UNBOUNDED, SchemaGraph

STORED_DEPTH_MAX: Final = 1024
"""Depth of a definition that was stored before definitions had bounds."""
CHEAP_COST_MAX: Final = 200_000
"""Up to this cost, some 4 ms, a check may run between other work."""
BACKTRACKS_MAX: Final = 1_000_000
"""Steps back of a pattern with lookaround or back-references in one string; more is refused."""
PATTERNS_BYTES_MAX: Final = 8 * 1024 * 1024
"""Memory of all compiled patterns of one schema; each pattern may use an equal share."""
PATTERN_BYTES_MAX: Final = 4 * 1024 * 1024
"""Memory of one compiled pattern."""

_VALUE_COST: Final = 10
"""Cost to parse one value, in checks."""
_BYTES_A_COST: Final = 64
_SEARCHED_BYTES_A_COST: Final = 4

_EXPLANATION_FACTOR: Final = 20
_COMPILATION_COST: Final = 400
"""Cost to compile one schema for explanations."""

_PatternOptions = jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions


class _Validator(Protocol):
    def is_valid(self, instance: Any) -> bool: ...
    def validate(self, instance: Any) -> None: ...


class JsonSchema:
    """A compiled definition.

    Attributes:
        graph: its structure; None for a stored definition that is over today's bounds.
    """

    def __init__(self, definition: Any, graph: SchemaGraph | None) -> None:
        """Compile a parsed definition. Raises InvalidInput if it is no JSON schema."""
        self.graph = graph
        self._definition = definition
        self._patterns, self._validator = _compile(definition, graph)
        self._explainer: _Validator | None = None

    def cost(self, payload: bytes) -> int:
        """Estimate from above what parsing and checking costs, in checks (some 20 ns each)."""
        if self.graph is None:
            return UNBOUNDED
        openings = payload.count(b"[") + payload.count(b"{")
        values = 1 + payload.count(b",") + 2 * openings
        parsing = values * _VALUE_COST + len(payload) // _BYTES_A_COST
        checked = max(values, len(payload) // _SEARCHED_BYTES_A_COST) if self.graph.searches else values
        cost = parsing + checked * self.graph.visits(min(openings, JSON_DEPTH_MAX))
        if cost > CHEAP_COST_MAX >= parsing + checked * self.graph.visits(0):
            depth = min(nesting(payload), JSON_DEPTH_MAX)
            cost = parsing + checked * self.graph.visits(depth)
        return cost

    def explanation_cost(self, payload: bytes) -> int:
        """Estimate from above what `explain` costs, the first one with its compilation."""
        compilation = 0 if self.graph is None or self._explainer else self.graph.size * _COMPILATION_COST
        return _EXPLANATION_FACTOR * self.cost(payload) + compilation

    def is_valid(self, value: Any) -> bool:
        """Return whether a parsed value fits. Raises ValueError if it cannot be checked."""
        return self._validator.is_valid(value)

    def explain(self, value: Any) -> str:
        """Return why a value that does not fit does not: the first reason found, and where."""
        if self._explainer is None:
            self._explainer = self._make_explainer()
        try:
            self._explainer.validate(value)
        except jsonschema_rs.ValidationError as error:
            where = "/".join(str(step) for step in error.instance_path)
            return f"at '/{where}': {first_line(error.message)}"
        except ValueError as error:
            return first_line(error)
        return "at '/'"

    def _make_explainer(self) -> _Validator:
        """Return a validator that gives no reasons within alternatives.

        The library collects the reasons of each alternative within each other, which grows exponentially with
        the depth of a recursive schema.
        """
        validators = jsonschema_rs.validator_map_for(
            self._definition, retriever=_no_remote_reference, pattern_options=self._patterns
        )
        keywords: dict[str, Any] = {
            "anyOf": _alternatives(validators, lambda fitting: fitting > 0, "fits none of"),
            "oneOf": _alternatives(validators, lambda fitting: fitting == 1, "does not fit exactly one of"),
        }
        return jsonschema_rs.validator_for(
            self._definition,
            retriever=_no_remote_reference,
            pattern_options=self._patterns,
            keywords=keywords,
        )


def _alternatives(
    validators: jsonschema_rs.ValidatorMap, enough: Callable[[int], bool], failure: str
) -> type:
    """Return a keyword for the library that tells whether enough alternatives fit, and no more."""

    class Alternatives:
        def __init__(self, _parent: Mapping[str, Any], value: Any, path: list[str | int]) -> None:
            at = "#" + "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
            found = [validators.get(f"{at}/{number}") for number in range(len(value))]
            self._validators = [validator for validator in found if validator is not None]
            self._known = len(self._validators) == len(value)

        def validate(self, instance: Any) -> None:
            fitting = sum(validator.is_valid(instance) for validator in self._validators)
            if self._known and not enough(fitting):
                raise ValueError(f"the value {failure} the {len(self._validators)} alternatives")

    return Alternatives


def read_json_schema(definition: str) -> JsonSchema:
    """Compile the definition of a new topic. Raises InvalidInput, naming the bound that it is over."""
    parsed = parsed_definition(definition)
    return JsonSchema(parsed, SchemaGraph(parsed))


def stored_json_schema(definition: str) -> JsonSchema:
    """Compile a definition that is older than a bound: at any cost. Raises InvalidInput."""
    return JsonSchema(parsed_definition(definition, STORED_DEPTH_MAX), None)


def parsed_definition(definition: str, depth_max: int = JSON_DEPTH_MAX) -> Any:
    """Return the value of a definition; nothing means the schema that takes all JSON. Raises InvalidInput."""
    if not definition.strip():
        return {}
    try:
        return parse_json(definition.encode(), depth_max)
    except JsonTextError as error:
        raise InvalidInput(f"the JSON schema is {error}") from None


def _compile(definition: Any, graph: SchemaGraph | None) -> tuple[_PatternOptions, _Validator]:
    """Compile for an engine that searches in linear time, or for one that knows all patterns of ECMA-262."""
    share = (
        None if graph is None else min(PATTERN_BYTES_MAX, PATTERNS_BYTES_MAX // max(len(graph.patterns), 1))
    )
    engines: list[_PatternOptions] = [jsonschema_rs.FancyRegexOptions(BACKTRACKS_MAX, share)]
    if graph is None or graph.patterns:
        engines.insert(0, jsonschema_rs.RegexOptions(share))
    failure: Exception | None = None
    for options in engines:
        try:
            validator = jsonschema_rs.validator_for(
                definition, retriever=_no_remote_reference, pattern_options=options
            )
        except (*UNDECODABLE, TypeError) as error:
            failure = error
            continue
        if failure is not None and graph is not None:
            graph.understood = False  # it goes back over a string as often as it takes
        return options, validator
    reason = first_line(failure)
    if share is not None and reason.endswith('is not a "regex"'):
        reason += f", or takes more than {share} bytes of memory"
    raise InvalidInput(f"the JSON schema is not valid: {reason}")


def _no_remote_reference(uri: str) -> Any:
    raise ValueError(f"a schema must be self-contained, it refers to {uri}")


def first_line(error: object) -> str:
    """Return the first line of an error, cut to 300 characters."""
    return str(error).splitlines()[0][:300] if str(error) else "no reason given"
