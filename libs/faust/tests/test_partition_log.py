from __future__ import annotations

from danube_client import Message
from danube_client.stream.reading import ReadTopic
from danube_faust.partition_log import PartitionLog

SOURCE = ReadTopic("/default/t", None)


def messages(*positions: int) -> list[Message]:
    return [Message(b"", SOURCE, position) for position in positions]


def positions(found: list[Message]) -> list[int]:
    return [message.position for message in found]


def filled() -> PartitionLog:
    log = PartitionLog()
    log.extend(messages(5, 9, 10, 700))
    return log


def test_messages_are_given_in_order_and_once() -> None:
    log = filled()

    assert positions(log.take(3)) == [5, 9, 10]
    assert positions(log.take(3)) == [700]
    assert log.take(3) == []
    assert log.end == 701


def test_what_comes_again_after_a_lost_connection_is_not_given_again() -> None:
    log = filled()
    log.take(2)
    log.extend(messages(9, 10, 700, 701))

    assert positions(log.take(9)) == [10, 700, 701]


def test_only_what_is_acknowledged_without_a_hole_is_committed() -> None:
    log = filled()
    log.take(3)

    assert log.committable({9, 10}.__contains__) is None
    assert log.committable({5, 9, 700}.__contains__) == 10
    last = log.commit(10)
    assert last is not None
    assert last.position == 9
    assert log.commit(10) is None


def test_a_rewind_gives_again_what_is_not_committed() -> None:
    log = filled()
    log.take(4)
    log.commit(6)

    assert log.rewind() == 9
    assert positions(log.take(9)) == [9, 10, 700]


def test_a_rewind_of_what_is_all_committed_goes_on_behind_it() -> None:
    log = filled()
    log.take(4)
    log.commit(701)

    assert log.rewind() == 701
    assert log.take(1) == []


def test_nothing_is_known_of_a_partition_without_messages() -> None:
    assert PartitionLog().rewind() is None


def test_what_another_worker_had_meanwhile_may_begin_anywhere() -> None:
    log = filled()
    log.take(4)
    log.clear()
    log.extend(messages(9))

    assert positions(log.take(9)) == [9]
