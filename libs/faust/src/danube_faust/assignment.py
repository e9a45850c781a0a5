"""Which worker works on which partitions: Faust's own assignor, asked by each worker for itself.

All workers hear the same heartbeats and so come to the same answer. They tell in them what they have: a
partition stays with its worker, and goes to a standby before others. What they are told by the platform,
which lets only one of them have a partition, decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor import partition_assignor
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata, CopartitionedAssignment
from faust.assignor.copartitioned_assignor import CopartitionedAssignor
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from danube_faust.members import Member, Partitions


class _Partitions:
    """What the assignor asks a Kafka cluster for."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Return the numbers of a topic's partitions."""
        return set(range(self._partitions.get(topic, 0)))


class _Endless(Exception):
    """Two standbys take turns at one place."""


class EndingAssignor(CopartitionedAssignor):
    """Faust's assignor of topics that belong together.

    Faust's may go on for ever with what workers have: to place a standby it takes another one from its place.
    This one then begins with workers that have nothing, which ends.
    """

    _taken = 0

    def get_assignment(self) -> MutableMapping[str, CopartitionedAssignment]:
        """Return what each worker is to have."""
        try:
            return super().get_assignment()
        except _Endless:
            for client in self._client_assignments.values():
                client.actives.clear()
                client.standbys.clear()
            self._taken = 0
            return super().get_assignment()

    def _free_up_partition(self, assignment: CopartitionedAssignment, active: bool) -> int:
        self._taken += 1
        if self._taken > self.num_partitions * self.replicas:
            raise _Endless
        return super()._free_up_partition(assignment, active)


partition_assignor.CopartitionedAssignor = EndingAssignor  # type: ignore[attr-defined]


def assign(
    assignor: PartitionAssignor, members: Mapping[str, Member], partitions: Mapping[str, int]
) -> dict[str, ClientMetadata]:
    """Return what each worker is to work on.

    Args:
        assignor: the app's.
        members: the workers by name, in the same order everywhere, each with what it has.
        partitions: how many partitions each topic has.
    """
    # While there is one that does not look at what others tell, all come to its answer.
    told_of = partitions if all(member.tells for member in members.values()) else {}
    metadata = {
        name: ConsumerProtocolMemberMetadata(
            assignor.version,
            [topic for topic in member.topics if topic in partitions],
            _metadata(member, told_of).dumps(),
        )
        for name, member in members.items()
    }
    answer = assignor.assign(_Partitions(partitions), metadata)
    return {name: _loads(assignor, found) for name, found in answer.items()}


def take(assignor: PartitionAssignor, metadata: ClientMetadata, have: Iterable[TP]) -> set[TP]:
    """Tell the assignor which partitions this worker has; return them and the changelogs it follows."""
    kept = set(have)
    actives: dict[str, list[int]] = {
        topic: [number for number in numbers if TP(topic, number) in kept]
        for topic, numbers in metadata.assignment.actives.items()
    }
    mine = ClientMetadata(
        assignment=ClientAssignment(
            actives={topic: numbers for topic, numbers in actives.items() if numbers},
            standbys=metadata.assignment.standbys,
        ),
        url=metadata.url,
        changelog_distribution=metadata.changelog_distribution,
        external_topic_distribution=metadata.external_topic_distribution,
        topic_groups=metadata.topic_groups,
    )
    # Without the standbys of topics that are no changelogs: nobody reads these.
    consumed = sorted(mine.assignment.kafka_protocol_assignment(assignor._table_manager))  # noqa: SLF001
    assignor.on_assignment(
        ConsumerProtocolMemberAssignment(
            assignor.version,
            consumed,
            assignor._compress(mine.dumps()),  # noqa: SLF001 - what it decompresses
        )
    )
    return {TP(topic, number) for topic, numbers in consumed for number in numbers}


def told(assignor: PartitionAssignor, metadata: ClientMetadata) -> tuple[Partitions, Partitions]:
    """Return what a worker tells the others of its assignment: what it is active for, and standby.

    Nobody is told of global tables: all workers are active and standby for all of their partitions. Of topics
    that belong together Faust takes as had what is told of any one, in each process of another one.
    """
    of_all = {
        table._changelog_topic_name()  # noqa: SLF001 - as the assignor asks
        for table in assignor._table_manager.data.values()  # noqa: SLF001
        if table.is_global
    }

    def others(found: Partitions) -> Partitions:
        return {topic: numbers for topic, numbers in found.items() if topic not in of_all}

    return others(metadata.assignment.actives), others(metadata.assignment.standbys)


def _metadata(member: Member, partitions: Mapping[str, int]) -> ClientMetadata:
    """Return what the assignor is to know of a worker: no partition that is not there or not consumed."""

    def there(told: Partitions) -> dict[str, list[int]]:
        return {
            topic: sorted({number for number in numbers if 0 <= number < partitions.get(topic, 0)})
            for topic, numbers in told.items()
            if topic in member.topics
        }

    return ClientMetadata(
        assignment=ClientAssignment(actives=there(member.actives), standbys=there(member.standbys)),
        url=member.url,
        changelog_distribution={},
        external_topic_distribution={},
        topic_groups={},
    )


def _loads(assignor: PartitionAssignor, found: Any) -> ClientMetadata:
    loaded: ClientMetadata = ClientMetadata.loads(assignor._decompress(found.user_data))  # noqa: SLF001
    for topics in (loaded.assignment.actives, loaded.assignment.standbys):
        for numbers in topics.values():
            numbers.sort()
    for distribution in (loaded.changelog_distribution, loaded.external_topic_distribution):
        for topics in distribution.values():
            for numbers in topics.values():
                numbers.sort()
    return loaded
