"""Counts what was deleted of a bundle's archive, each segment once, also after crashes. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import msgspec

from danube_common.archive.records import SHARED, BundleArchive, Deletions, ManifestEntry


def deletions(archive: BundleArchive, entries: Iterable[ManifestEntry]) -> dict[int, Deletions]:
    """What was deleted of each topic since it was created, by topic id; shared segments under `SHARED`.

    Read ``entries`` before ``archive``: an entry that is compacted in between then counts once.
    """
    totals = {int(topic_id): counted for topic_id, counted in archive.deletions.items()}
    for entry in entries:
        if entry.first_sequence > archive.forgotten_through:
            for each in entry.deleted:
                totals[each.topic_id] = totals.get(each.topic_id, Deletions()).plus(each)
    return totals


def compacted(
    archive: BundleArchive, entries: Sequence[ManifestEntry], topic_ids: Container[int]
) -> BundleArchive:
    """``archive`` with the deletions of ``entries`` added, so that the entries may be removed.

    Entries that ``archive`` counts already are not added again.

    Args:
        archive: the record as stored.
        entries: the oldest ones of the manifest, in order and without a gap.
        topic_ids: the topics that exist; the counts of other topics are dropped.
    """
    totals = deletions(archive, entries)
    return msgspec.structs.replace(
        archive,
        forgotten_through=max((archive.forgotten_through, *(entry.last_sequence for entry in entries))),
        deletions={
            str(topic_id): counted
            for topic_id, counted in sorted(totals.items())
            if topic_id == SHARED or topic_id in topic_ids
        },
    )
