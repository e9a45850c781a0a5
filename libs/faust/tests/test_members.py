from __future__ import annotations

from dataclasses import replace

from danube_faust.members import Member, Members

TIMEOUT_S = 3.0
NOTHING_HAD = [
    b'{"name": "a", "url": "u", "topics": [], "leaving": false, "actives": %s}' % actives
    for actives in (b"1", b"[1]", b'{"orders": 1}', b'{"orders": ["x"]}', b"null")
]


def member(name: str, *, leaving: bool = False) -> Member:
    return Member(name, f"http://{name}", ("orders",), leaving)


def heard(*names: str, now_s: float = 0.0) -> Members:
    members = Members("me", TIMEOUT_S)
    for name in names:
        members.hear(member(name), now_s)
    return members


def test_a_heartbeat_is_read_as_it_was_written() -> None:
    assert Member.from_json(member("a").to_json().encode()) == member("a")


def test_a_heartbeat_says_what_a_worker_has_and_one_of_an_earlier_version_has_nothing() -> None:
    has = Member("a", "http://a", ("orders",), actives={"orders": [0, 2]}, standbys={"orders": [1]})
    assert Member.from_json(has.to_json().encode()) == has

    earlier = b'{"name": "a", "url": "http://a", "topics": ["orders"], "leaving": false}'
    assert Member.from_json(earlier) == replace(member("a"), tells=False)


def test_what_is_no_heartbeat_is_passed_over() -> None:
    for payload in (b"", b"\xff", b"[]", b"{}", b'{"name": 1}', b"null", *NOTHING_HAD):
        assert Member.from_json(payload) is None


def test_workers_come_in_the_same_order_everywhere() -> None:
    assert list(heard("me", "z", "a").living(1.0) or ()) == ["a", "me", "z"]


def test_a_worker_that_is_silent_is_given_up_and_one_that_leaves_at_once() -> None:
    members = heard("me", "a", "b")
    members.hear(member("me"), 2.0)
    members.hear(member("b"), 2.0)
    members.hear(member("b", leaving=True), 2.1)

    assert list(members.living(2.5) or ()) == ["a", "me"]
    members.hear(member("me"), 3.5)
    assert list(members.living(4.0) or ()) == ["me"]


def test_nobody_is_given_up_while_the_platform_is_away() -> None:
    members = heard("me", "a")

    assert members.living(60.0) is None
    members.hear(member("me"), 60.0)
    assert list(members.living(61.0) or ()) == ["a", "me"]


def test_a_worker_that_was_never_heard_tells_nothing() -> None:
    assert heard("a").living(0.0) is None
