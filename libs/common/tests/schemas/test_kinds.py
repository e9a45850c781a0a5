from __future__ import annotations

import pytest

from danube_common.errors import InvalidInput
from danube_common.schemas.kinds import (
    CompatibilityMode,
    SchemaType,
    ValidationPolicy,
    compatibility_mode,
    schema_type,
    validation_policy,
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("avro", SchemaType.AVRO),
        ("AVRO", SchemaType.AVRO),
        ("json", SchemaType.JSON_SCHEMA),
        ("jsonschema", SchemaType.JSON_SCHEMA),
        ("JSON-Schema", SchemaType.JSON_SCHEMA),
        ("int64", SchemaType.NUMBER),
        ("proto", SchemaType.PROTOBUF),
        *((str(kind), kind) for kind in SchemaType),
    ],
)
def test_a_type_is_known_by_its_name_and_aliases_in_any_case(text: str, kind: SchemaType) -> None:
    assert schema_type(text) is kind


def test_modes_and_policies_are_known_in_any_case() -> None:
    assert compatibility_mode("FULL_TRANSITIVE") is CompatibilityMode.FULL_TRANSITIVE
    assert compatibility_mode("backward-transitive") is CompatibilityMode.BACKWARD_TRANSITIVE
    assert [validation_policy(word) for word in ("none", "Warn", "ENFORCE")] == list(ValidationPolicy)


@pytest.mark.parametrize("word", ["", "xml", "x" * 10_000])
def test_an_unknown_word_is_refused_with_those_that_are_known(word: str) -> None:
    for parse, known in ((schema_type, "avro"), (compatibility_mode, "full"), (validation_policy, "warn")):
        with pytest.raises(InvalidInput, match=known) as refusal:
            parse(word)
        assert len(str(refusal.value)) < 300
