from __future__ import annotations

from danube_admin_service.console.cluster.move_plan import Chip, move_plan
from danube_proto import danube_admin_pb2 as admin


def test_bundles_are_drawn_where_they_are_and_where_they_would_be() -> None:
    moves = [admin.ProposedMove(topic_name="f1", from_broker=1, to_broker=2)]
    first, second = move_plan(["1", "2"], {"f0": "1", "f1": "1", "f2": "2"}, moves)
    assert first.now == (Chip("f0"), Chip("f1", "leaves"))
    assert first.then == (Chip("f0"),)
    assert second.now == (Chip("f2"),)
    assert second.then == (Chip("f1", "comes"), Chip("f2"))
