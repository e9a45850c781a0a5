"""The structure of a JSON schema: what applies what to which values, its bounds, and what a check may cost.

Checking a value visits the schemas that apply to the value itself (``allOf``, ``$ref``, ...), and then those
that apply to its items and members. Visits of one value are bounded when a topic is made; visits of a payload
are estimated from its size and depth before it is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

from danube_common.errors import InvalidInput

SUBSCHEMAS_MAX: Final = 10_000
"""Schemas within one definition."""
VALUE_VISITS_MAX: Final = 100_000
"""Keywords that apply to one value, when references are followed and alternatives are tried."""
ENUM_CONTAINERS_MAX: Final = 1_000
"""Arrays and objects in one ``enum``; each is compared with the value."""
PATTERN_CHARACTERS_MAX: Final = 1_000
"""Characters of one regular expression."""
LEVELS_MAX: Final = 32
"""Depth of payloads for which a recursive schema's cost is estimated; for deeper ones it has no bound."""
UNBOUNDED: Final = 1 << 62

_ROLES: Final = {
    keyword: role
    for role, keywords in {
        "in_place": "not if then else allOf anyOf oneOf dependentSchemas dependencies",
        "items": "prefixItems",
        "every_item": "items additionalItems contains unevaluatedItems",
        "members": "properties",
        "every_member": "patternProperties additionalProperties unevaluatedProperties propertyNames",
        "unused": "$defs definitions",
    }.items()
    for keyword in keywords.split()
}
"""The list of `_Node` for the schemas of a keyword."""
_NAMED: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"}
)
"""Keywords whose value maps names to schemas; the others hold one schema or a list."""
_OPAQUE: Final = ("$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties")
"""Keywords whose cost depends on more than the place where they stand."""
_SEARCHED: Final = ("pattern", "patternProperties", "format", "contentEncoding", "contentMediaType")
"""Keywords that read each character of a string or a name."""
_UNIQUE_ITEM_COST: Final = 16
_CHARACTERS_A_COMPARISON: Final = 4


@dataclass(slots=True)
class _Node:
    """One schema, with the indices of those it applies."""

    cost: int
    child_cost: int = 0
    in_place: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    """One of each item, as far as the position decides; `every_item` applies too."""
    every_item: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    every_member: list[int] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)
    """Definitions, which count only where they are referred to."""

    @property
    def is_leaf(self) -> bool:
        """Whether no other schema is applied."""
        return not (
            self.in_place
            or self.items
            or self.every_item
            or self.members
            or self.every_member
            or self.child_cost
        )


class SchemaGraph:
    """The schemas of one definition and the references between them.

    Attributes:
        size: how many schemas there are.
        patterns: the regular expressions.
        understood: False if the cost of a check cannot be told: a reference leads out of the definition,
            or a keyword is used whose cost is not local.
        searches: True if the schema reads the characters of strings.
    """

    def __init__(self, definition: Any) -> None:
        """Read a definition. Raises InvalidInput with the bound that it is over."""
        self.understood = True
        self.searches = False
        self.patterns: set[str] = set()
        self._index: dict[int, int] = {}
        self._nodes: list[_Node] = []
        self._references: list[tuple[int, str]] = []
        self._targets: dict[str, Any] = {}
        self._read(definition, "")
        self._link(definition)
        self._order = self._in_place_order()
        self._levels = [self._level(None)]
        for visits in self._levels[0]:
            if visits > VALUE_VISITS_MAX:
                raise InvalidInput(
                    f"the JSON schema applies more than {VALUE_VISITS_MAX} checks to one value"
                )

    @property
    def size(self) -> int:
        """How many schemas the definition has."""
        return len(self._nodes)

    def visits(self, depth: int) -> int:
        """Return how many checks one value of a payload meets at most, in payloads of this depth."""
        if not self.understood:
            return UNBOUNDED
        if not self._nodes:
            return 1  # the definition is true or false
        most = self._levels[0][0]
        for level in range(1, depth + 1):
            if level == len(self._levels):
                self._levels.append(self._level(self._levels[-1]))
            visits = self._levels[level][0]
            if not visits:
                break
            if level > LEVELS_MAX:
                return UNBOUNDED
            most = max(most, visits)
        return most

    def _read(self, schema: Any, base: str) -> int | None:
        """Add a schema and those within it; return its index. What is no schema has none."""
        if type(schema) is not dict:
            return None
        known = self._index.get(id(schema))
        if known is not None:
            return known
        if len(self._nodes) >= SUBSCHEMAS_MAX:
            raise InvalidInput(f"the JSON schema has more than {SUBSCHEMAS_MAX} schemas")
        base = self._name(schema, base)
        index = self._index[id(schema)] = len(self._nodes)
        node = _Node(_cost(schema))
        self._nodes.append(node)
        self._note(schema, node)
        for keyword, value in schema.items():
            role = _ROLES.get(keyword)
            if role is None:
                continue
            schemas: Iterable[Any] = (value,)
            if type(value) is list:
                schemas, role = value, "items" if keyword == "items" else role
            elif keyword in _NAMED and type(value) is dict:
                schemas = value.values()
            applied: list[int] = getattr(node, role)
            found = [self._read(each, base) for each in schemas]
            applied += [other for other in found if other is not None]
        if isinstance(reference := schema.get("$ref"), str):
            self._references.append((index, urljoin(base, reference) if base else reference))
        return index

    def _name(self, schema: Mapping[str, Any], base: str) -> str:
        """Note under which URIs references find the schema; return the base of the references within it."""
        own = schema.get("$id", schema.get("id"))
        names = [schema.get("$anchor")]
        if isinstance(own, str):
            if own.startswith("#"):
                names.append(own[1:])
            else:
                base = urldefrag(urljoin(base, own)).url
                self._targets.setdefault(base, schema)
        for name in names:
            if isinstance(name, str):
                self._targets.setdefault(f"{base}#{name}", schema)
        return base

    def _note(self, schema: Mapping[str, Any], node: _Node) -> None:
        """Note what the schema's own keywords mean for bounds and cost."""
        if any(keyword in schema for keyword in _OPAQUE) or schema.get("format") == "regex":
            self.understood = False
        self.searches = self.searches or any(keyword in schema for keyword in _SEARCHED)
        by_pattern = schema.get("patternProperties")
        names = list(by_pattern) if isinstance(by_pattern, dict) else []
        node.child_cost = len(names) + (_UNIQUE_ITEM_COST if schema.get("uniqueItems") is True else 0)
        for pattern in (*names, schema.get("pattern")):
            if isinstance(pattern, str):
                if len(pattern) > PATTERN_CHARACTERS_MAX:
                    raise InvalidInput(
                        f"a pattern of the JSON schema has more than {PATTERN_CHARACTERS_MAX} characters"
                    )
                self.patterns.add(pattern)
        choices = schema.get("enum")
        if isinstance(choices, list):
            containers = sum(isinstance(choice, (list, dict)) for choice in choices)
            if containers > ENUM_CONTAINERS_MAX:
                raise InvalidInput(
                    f"an enum of the JSON schema has more than {ENUM_CONTAINERS_MAX} arrays and objects"
                )

    def _link(self, definition: Any) -> None:
        """Follow the references; a target may lie under a keyword that is not one of JSON Schema."""
        done = 0
        while done < len(self._references):
            source, reference = self._references[done]
            done += 1
            target = self._resolve(definition, reference)
            if target is True or target is False:
                continue
            index = self._read(target, urldefrag(reference).url)
            if index is None:
                self.understood = False  # it is one of the meta-schemas, or compiling will refuse it
            else:
                self._nodes[source].in_place.append(index)

    def _resolve(self, definition: Any, reference: str) -> Any:
        url, fragment = urldefrag(reference)
        at = self._targets.get(url) if url else definition
        if at is None or not fragment:
            return at
        if not fragment.startswith("/"):
            return self._targets.get(f"{url}#{fragment}")
        for step in fragment[1:].split("/"):
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(at, dict) and name in at:
                at = at[name]
            elif isinstance(at, list) and name.isascii() and name.isdigit() and len(name) < 9:
                at = at[int(name)] if int(name) < len(at) else None
            else:
                return None
        return at

    def _in_place_order(self) -> list[int]:
        """Return the schemas, each after those that it applies to the same value.

        Raises InvalidInput if a schema applies itself to the same value: its check would have no end.
        """
        order: list[int] = []
        state = [0] * len(self._nodes)  # 0: not seen, 1: its own are being walked, 2: done
        for start in range(len(self._nodes)):
            if state[start]:
                continue
            state[start] = 1
            path: list[tuple[int, Iterator[int]]] = [(start, iter(self._nodes[start].in_place))]
            while path:
                index, rest = path[-1]
                following = next(rest, None)
                if following is None:
                    path.pop()
                    state[index] = 2
                    order.append(index)
                elif state[following] == 1:
                    raise InvalidInput(
                        "the JSON schema refers to itself for the same value: a reference leads back to its"
                        " schema without going to an item or a member"
                    )
                elif not state[following]:
                    state[following] = 1
                    path.append((following, iter(self._nodes[following].in_place)))
        return order

    def _level(self, above: list[int] | None) -> list[int]:
        """Return for each schema the checks of a value one level below those of ``above``; None: its own."""
        nodes = self._nodes
        visits = [node.cost for node in nodes] if above is None else [0] * len(nodes)
        for index in self._order:
            node = nodes[index]
            if node.is_leaf:
                continue
            count = sum(visits[other] for other in node.in_place)
            if above is None:
                count += node.cost
            else:
                one_item = max((above[other] for other in node.items), default=0)
                one_member = max((above[other] for other in node.members), default=0)
                count += max(
                    one_item + sum(above[other] for other in node.every_item),
                    one_member + sum(above[other] for other in node.every_member),
                )
                if len(self._levels) == 1:
                    count += node.child_cost
            visits[index] = min(count, UNBOUNDED)
        return visits


def _cost(schema: Mapping[str, Any]) -> int:
    """Return how much a visit costs, in checks: each keyword, each name it lists, each value it compares."""
    cost = 1
    for keyword, value in schema.items():
        cost += 1
        if keyword in {"enum", "const"}:
            values = value if keyword == "enum" and isinstance(value, list) else (value,)
            if any(isinstance(one, (list, dict)) for one in values):
                cost += len(str(value)) // _CHARACTERS_A_COMPARISON
            elif any(not isinstance(one, str) for one in values):
                cost += len(values)
        elif isinstance(value, (list, dict)) and keyword not in {"$defs", "definitions"}:
            cost += len(value)
    return cost
