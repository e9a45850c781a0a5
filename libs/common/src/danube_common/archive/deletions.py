"""How much of a bundle's archive was deleted, counted once however often anybody crashed on the way."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import msgspec

from danube_common.archive.records import SHARED, BundleArchive, Deletions, ManifestEntry


def deletions(archive: BundleArchive, cuts: Iterable[ManifestEntry]) -> dict[int, Deletions]:
    """What was deleted over the life of each topic, by topic id; under `SHARED` what many topics shared.

    ``cuts`` must have been read before ``archive``: a cut that was compacted in between then counts once.
    """
    totals = {int(topic_id): counted for topic_id, counted in archive.deletions.items()}
    for cut in cuts:
        if cut.first_sequence > archive.forgotten_through:
            for gone in cut.deleted:
                totals[gone.topic_id] = totals.get(gone.topic_id, Deletions()).plus(gone)
    return totals


def compacted(
    archive: BundleArchive, cuts: Sequence[ManifestEntry], topic_ids: Container[int]
) -> BundleArchive:
    """``archive`` with the deletions of ``cuts`` in it, so that they may be forgotten.

    Manifest that it holds already are passed over, so folding again changes nothing.

    Args:
        archive: what it was.
        cuts: of the oldest ones, without a gap, in order.
        topic_ids: the topics that exist; counts of others are of no use to anybody.
    """
    totals = deletions(archive, cuts)
    return msgspec.structs.replace(
        archive,
        forgotten_through=max((archive.forgotten_through, *(cut.last_sequence for cut in cuts))),
        deletions={
            str(topic_id): counted
            for topic_id, counted in sorted(totals.items())
            if topic_id == SHARED or topic_id in topic_ids
        },
    )
