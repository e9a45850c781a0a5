"""The schema registry on every kind of metadata store: ids, versions and races are those of one registry."""

from __future__ import annotations

import asyncio

import pytest

from danube_common.errors import NotFound
from danube_common.schemas.kinds import CompatibilityMode, SchemaType
from danube_common.schemas.registry import NewSchema, Registered, SchemaRegistry
from danube_harness.servers.metadata_backends import Backend

REGISTRIES = 3


def text(note: str) -> NewSchema:
    return NewSchema(SchemaType.STRING, note.encode())


async def test_a_subject_lives_in_the_store(backend: Backend) -> None:
    store, other_store = await backend.store(), await backend.store()
    registry = SchemaRegistry(store, now_ms=lambda: 1)
    other = SchemaRegistry(other_store, now_ms=lambda: 2)
    large = NewSchema(SchemaType.BYTES, b"x" * 256 * 1024)
    first = await registry.register("orders é/1", text("one"))
    await registry.set_compatibility("orders é/1", CompatibilityMode.NONE)
    second = await other.register("orders é/1", large)
    assert (second.subject.schema_id, second.version.version) == (first.subject.schema_id, 2)
    assert (await registry.resolve("orders é/1")).definition == large.definition
    assert not (await other.register("orders é/1", text("one"))).is_new
    await other.delete_version("orders é/1", 2)
    assert [each.version for each in await registry.versions("orders é/1")] == [1]
    with pytest.raises(NotFound):
        await registry.get(first.subject.schema_id, 2)
    assert (await registry.register("orders é/1", large)).version.version == 3
    assert [subject.name for subject, _ in await other.subjects()] == ["orders é/1"]
    await store.close()
    await other_store.close()


async def test_registrations_at_once_get_one_version_each_and_none_is_lost(backend: Backend) -> None:
    stores = [await backend.store() for _ in range(REGISTRIES)]
    registries = [SchemaRegistry(store, now_ms=lambda: 1) for store in stores]
    subjects = ["a", "b"]

    async def register(number: int) -> Registered:
        registry = registries[number % REGISTRIES]
        return await registry.register(subjects[number % 2], text(f"schema {number // 2 % 6}"))

    # Each of six schemas twice for each of two subjects, which no one has created yet.
    outcomes = await asyncio.gather(*(register(number) for number in range(24)))
    ids = {each.subject.name: each.subject.schema_id for each in outcomes}
    assert len(set(ids.values())) == 2
    for name in subjects:
        of_subject = [each for each in outcomes if each.subject.name == name]
        assert {each.version.version for each in of_subject} == set(range(1, 7))
        assert sum(each.is_new for each in of_subject) == 6
        assert {each.subject.schema_id for each in of_subject} == {ids[name]}
        for registry in registries:
            assert [each.version for each in await registry.versions(name)] == list(range(1, 7))
    for number, outcome in enumerate(outcomes):
        found = await registries[0].get(outcome.subject.schema_id, outcome.version.version)
        assert found.definition == text(f"schema {number // 2 % 6}").definition
    for store in stores:
        await store.close()


async def test_a_number_is_not_given_out_twice_while_versions_are_deleted(backend: Backend) -> None:
    stores = [await backend.store() for _ in range(2)]
    adding, deleting = (SchemaRegistry(store, now_ms=lambda: 1) for store in stores)
    added: asyncio.Queue[int] = asyncio.Queue()

    async def add() -> None:
        for number in range(10):
            added.put_nowait((await adding.register("s", text(f"{number}"))).version.version)

    async def delete() -> None:
        for version in range(1, 11):
            assert await added.get() == version
            await deleting.delete_version("s", version)

    async with asyncio.timeout(50):
        await asyncio.gather(add(), delete())
    assert await adding.versions("s") == []
    for store in stores:
        await store.close()
