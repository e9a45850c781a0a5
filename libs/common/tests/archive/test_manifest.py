from __future__ import annotations

import pytest

from danube_common.archive.manifest import Manifest
from danube_common.archive.records import ManifestEntry
from danube_common.errors import AlreadyExists
from danube_common.model.bundle import Bundle
from danube_harness.memory.metadata import MemoryMetadata

BUNDLE = Bundle.parse("f0")


def entry(first: int, last: int) -> ManifestEntry:
    return ManifestEntry(str(BUNDLE), first, last, 0, "archiver", ())


async def manifest(*entries: ManifestEntry) -> Manifest:
    found = await Manifest.open(MemoryMetadata(), BUNDLE)
    for each in entries:
        await found.add(each)
    return found


async def test_an_entry_is_found_by_any_sequence_that_it_holds() -> None:
    found = await manifest(entry(5, 9), entry(10, 10), entry(11, 20))
    firsts = {
        sequence: [each.first_sequence for each in found.from_sequence(sequence)]
        for sequence in (0, 9, 10, 21)
    }
    assert firsts == {0: [5, 10, 11], 9: [5, 10, 11], 10: [10, 11], 21: []}
    covering = [found.covering(sequence) for sequence in (4, 5, 10, 20, 21)]
    assert [each and each.first_sequence for each in covering] == [None, 5, 10, 11, None]
    assert found.archived_through == 20
    await found.close()


async def test_a_walk_over_entries_sees_those_that_are_added_meanwhile() -> None:
    found = await manifest(entry(1, 4))
    seen = []
    for each in found.from_sequence(0):
        seen.append(each.first_sequence)
        if each.last_sequence == 4:
            await found.add(entry(5, 6))
    assert seen == [1, 5]
    await found.close()


async def test_an_entry_is_never_added_twice_and_each_change_is_told() -> None:
    found = await manifest(entry(1, 4))
    told: list[tuple[int, int]] = []
    found.on_change(lambda before, after: told.append((before is not None, after is not None)))
    with pytest.raises(AlreadyExists):
        await found.add(entry(1, 9))
    await found.add(entry(5, 6))
    assert told == [(False, True)]
    await found.close()
