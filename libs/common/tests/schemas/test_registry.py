"""The registry on the metadata store in memory; tests/contract shows it on real stores."""

from __future__ import annotations

import asyncio

import pytest

from danube_common.cluster import keys
from danube_common.errors import InvalidInput, LimitExceeded, NotFound, Refused
from danube_common.model.schema import SCHEMA_BYTES_MAX
from danube_common.schemas import registry as bounds
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_common.schemas.registry import NewSchema, SchemaRegistry
from danube_harness.memory.metadata import MemoryMetadata


@pytest.fixture
def store() -> MemoryMetadata:
    return MemoryMetadata()


@pytest.fixture
def registry(store: MemoryMetadata) -> SchemaRegistry:
    return SchemaRegistry(store, now_ms=lambda: 1_000)


def avro(*fields: str, default: str = ', "default": 0') -> NewSchema:
    described = ", ".join(f'{{"name": "{name}", "type": "int"{default}}}' for name in fields)
    return NewSchema(SchemaType.AVRO, f'{{"type": "record", "name": "R", "fields": [{described}]}}'.encode())


def required(*fields: str) -> NewSchema:
    return avro(*fields, default="")


async def test_a_subject_gets_one_id_and_versions_from_one(registry: SchemaRegistry) -> None:
    first = await registry.register("orders", avro("a"))
    second = await registry.register("orders", avro("a", "b"))
    other = await registry.register("bills", avro("a"))
    assert (first.version.version, second.version.version, other.version.version) == (1, 2, 1)
    assert first.subject.schema_id == second.subject.schema_id != other.subject.schema_id
    assert first.is_new
    assert second.is_new
    assert await registry.get(first.subject.schema_id) == await registry.resolve("orders")
    assert (await registry.get(first.subject.schema_id, 1)).definition == avro("a").definition


async def test_the_same_schema_again_is_the_version_it_was_whatever_its_layout(
    registry: SchemaRegistry,
) -> None:
    first = await registry.register("orders", avro("a"))
    await registry.register("orders", avro("a", "b"))
    spaced = NewSchema(SchemaType.AVRO, avro("a").definition.replace(b" ", b"\n  "))
    again = await registry.register("orders", spaced)
    assert (again.version, again.is_new) == (first.version, False)
    assert (await registry.resolve("orders", pinned=1)).definition == avro("a").definition


async def test_what_people_noted_is_kept(registry: SchemaRegistry) -> None:
    noted = NewSchema(SchemaType.STRING, b"a name", "names", "ann", ("x", "y"))
    version = (await registry.register("names", noted)).version
    assert (version.description, version.created_by, version.tags, version.created_ms) == (
        "names", "ann", ("x", "y"), 1_000,
    )  # fmt: skip
    assert version.fingerprint.startswith("sha256:")


async def test_a_reference_means_the_latest_version_a_pinned_one_or_at_least_one(
    registry: SchemaRegistry,
) -> None:
    for schema in (avro("a"), avro("a", "b"), avro("a", "b", "c")):
        await registry.register("orders", schema)
    assert (await registry.resolve("orders")).version.version == 3
    assert (await registry.resolve("orders", pinned=2)).version.version == 2
    assert (await registry.resolve("orders", minimum=2)).version.version == 3
    for wrong in ({"pinned": 4}, {"pinned": 0}, {"minimum": 4}, {"pinned": 1 << 40}):
        with pytest.raises(NotFound):
            await registry.resolve("orders", **wrong)
    with pytest.raises(NotFound, match="subject bills does not exist"):
        await registry.resolve("bills")


@pytest.mark.parametrize("schema_id", [0, 2, 1 << 63, (1 << 64) - 1])
async def test_an_unknown_id_is_not_found(registry: SchemaRegistry, schema_id: int) -> None:
    await registry.register("orders", avro("a"))
    with pytest.raises(NotFound, match="schema id"):
        await registry.get(schema_id)


async def test_an_incompatible_version_is_refused_with_the_reason_and_changes_nothing(
    registry: SchemaRegistry,
) -> None:
    await registry.register("orders", avro("a"))
    with pytest.raises(Refused, match=r"backward.*version 1.*R\.b|\.b.*no default"):
        await registry.register("orders", required("a", "b"))
    assert [each.version for each in await registry.versions("orders")] == [1]


@pytest.mark.parametrize(
    ("mode", "adds_required", "drops_required"),
    [
        ("none", True, True),
        ("backward", False, True),
        ("forward", True, False),
        ("full", False, False),
    ],
)
@pytest.mark.parametrize("transitive", [False, True])
async def test_a_mode_decides_which_changes_are_taken(
    registry: SchemaRegistry, mode: str, transitive: bool, adds_required: bool, drops_required: bool
) -> None:
    if transitive and mode == "none":
        return
    await registry.register("orders", required("a"))
    await registry.set_compatibility(
        "orders", CompatibilityMode(f"{mode}_transitive" if transitive else mode)
    )
    assert (not await registry.check("orders", required("a", "b"))) is adds_required
    assert (not await registry.check("orders", required())) is drops_required


async def test_a_transitive_mode_compares_with_all_versions(registry: SchemaRegistry) -> None:
    await registry.register("orders", required())
    await registry.register("orders", avro("a"))
    assert not await registry.check("orders", required("a"))
    problems = await registry.check("orders", required("a"), CompatibilityMode.BACKWARD_TRANSITIVE)
    assert len(problems) == 1
    assert "version 1" in problems[0]


async def test_another_type_follows_in_mode_none_only(registry: SchemaRegistry) -> None:
    await registry.register("orders", avro("a"))
    text = NewSchema(SchemaType.STRING, b"text")
    with pytest.raises(Refused, match="string does not read avro"):
        await registry.register("orders", text)
    await registry.set_compatibility("orders", CompatibilityMode.NONE)
    assert (await registry.register("orders", text)).version.version == 2


async def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(registry: SchemaRegistry) -> None:
    for schema in (avro("a"), avro("a", "b")):
        await registry.register("orders", schema)
    await registry.delete_version("orders", 2)
    assert [each.version for each in await registry.versions("orders")] == [1]
    assert (await registry.resolve("orders")).version.version == 1
    with pytest.raises(NotFound):
        await registry.resolve("orders", pinned=2)
    for gone in (2, 3, 0, 1 << 40):
        with pytest.raises(NotFound):
            await registry.delete_version("orders", gone)
    assert (await registry.register("orders", avro("a", "b"))).version.version == 3


async def test_compatibility_is_checked_with_the_latest_version_that_is_left(
    registry: SchemaRegistry,
) -> None:
    await registry.register("orders", required("a"))
    await registry.register("orders", required())
    await registry.delete_version("orders", 2)
    with pytest.raises(Refused, match="version 1"):
        await registry.register("orders", required("a", "b"))


async def test_a_subject_without_a_version_takes_any(registry: SchemaRegistry) -> None:
    created = await registry.register("orders", avro("a"))
    await registry.delete_version("orders", 1)
    with pytest.raises(NotFound, match="has no version"):
        await registry.get(created.subject.schema_id)
    assert await registry.subjects() == [(created.subject, None)]
    again = await registry.register("orders", NewSchema(SchemaType.STRING, b""))
    assert again.subject == created.subject
    assert again.version.version == 2


async def test_all_subjects_are_listed_with_their_latest_version(registry: SchemaRegistry) -> None:
    for subject, count in (("b", 1), ("a", 2), ("ü.x/y", 1)):
        for schema in (avro("a"), avro("a", "b"))[:count]:
            await registry.register(subject, schema)
    listed = [(each.name, latest.version) for each, latest in await registry.subjects() if latest]
    assert listed == [("a", 2), ("b", 1), ("ü.x/y", 1)]


async def test_registrations_at_once_get_a_version_each_and_none_is_lost(registry: SchemaRegistry) -> None:
    await registry.register("orders", avro())
    outcomes = await asyncio.gather(*(registry.register("orders", avro(f"f{n}")) for n in range(12)))
    assert sorted(each.version.version for each in outcomes) == list(range(2, 14))
    for outcome in outcomes:
        found = await registry.resolve("orders", pinned=outcome.version.version)
        assert found.version == outcome.version


async def test_the_same_schema_registered_at_once_is_one_version(registry: SchemaRegistry) -> None:
    outcomes = await asyncio.gather(*(registry.register("orders", avro("a")) for _ in range(8)))
    assert {each.version.version for each in outcomes} == {1}
    assert sum(each.is_new for each in outcomes) == 1
    assert len({each.subject.schema_id for each in outcomes}) == 1


async def test_an_id_belongs_to_one_subject_also_when_many_are_created_at_once(
    registry: SchemaRegistry,
) -> None:
    names = [f"s{n % 6}" for n in range(18)]
    outcomes = await asyncio.gather(*(registry.register(name, avro("a")) for name in names))
    ids = {name: each.subject.schema_id for name, each in zip(names, outcomes, strict=True)}
    assert len(set(ids.values())) == 6
    for name, each in zip(names, outcomes, strict=True):
        assert each.subject.schema_id == ids[name]
        assert (await registry.get(ids[name])).subject.name == name


async def test_a_version_whose_writer_died_half_way_is_completed_by_the_next_one(
    registry: SchemaRegistry, store: MemoryMetadata
) -> None:
    first = await registry.register("orders", avro("a"))
    summary_key = keys.schema_version_key(first.subject.schema_id, 1)
    await store.delete(summary_key)
    assert await registry.versions("orders") == []
    second = await registry.register("orders", avro("a", "b"))
    assert second.version.version == 2
    assert [each.version for each in await registry.versions("orders")] == [1, 2]


@pytest.mark.parametrize(
    ("subject", "schema"),
    [
        ("", avro("a")),
        ("x" * 256, avro("a")),
        ("☃" * 200, avro("a")),
        ("a\nb", avro("a")),
        ("orders", NewSchema(SchemaType.AVRO, b"{")),
        ("orders", NewSchema(SchemaType.JSON_SCHEMA, b'{"type": "nothing"}')),
        ("orders", NewSchema(SchemaType.PROTOBUF, b"message {}")),
        ("orders", NewSchema(SchemaType.BYTES, b"x" * (SCHEMA_BYTES_MAX + 1))),
        ("orders", NewSchema(SchemaType.BYTES, b"", description="x" * 5000)),
        ("orders", NewSchema(SchemaType.BYTES, b"", tags=("x",) * 17)),
        ("orders", NewSchema(SchemaType.BYTES, b"", tags=("x" * 65,))),
        ("orders", NewSchema(SchemaType.BYTES, b"", created_by="x" * 256)),
    ],
)
async def test_what_is_not_valid_or_over_a_bound_is_refused_and_creates_nothing(
    registry: SchemaRegistry, subject: str, schema: NewSchema
) -> None:
    with pytest.raises(InvalidInput):
        await registry.register(subject, schema)
    assert await registry.subjects() == []


async def test_subjects_versions_and_bytes_are_bounded(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "SUBJECTS_MAX", 2)
    monkeypatch.setattr(bounds, "VERSIONS_MAX", 2)
    monkeypatch.setattr(bounds, "SUBJECT_BYTES_MAX", 10)
    text = [NewSchema(SchemaType.STRING, each) for each in (b"1", b"22", b"333", b"x" * 10)]
    await registry.register("a", text[0])
    with pytest.raises(LimitExceeded, match="10"):
        await registry.register("a", text[3])
    await registry.register("a", text[1])
    with pytest.raises(LimitExceeded, match="another subject"):
        await registry.register("a", text[2])
    await registry.register("b", text[0])
    with pytest.raises(LimitExceeded, match="2 subjects"):
        await registry.register("c", text[0])
    assert not (await registry.register("a", text[0])).is_new
