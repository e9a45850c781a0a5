from __future__ import annotations

from danube_client.stream.routing import Router, fnv1a_64


def test_keys_are_hashed_as_the_current_generation_does() -> None:
    # The test vectors that come with the hash.
    assert fnv1a_64(b"") == 0xCBF29CE484222325
    assert fnv1a_64(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a_64(b"foobar") == 0x85944171F73967E8


def test_messages_of_a_key_stay_on_their_partition_and_others_take_turns() -> None:
    router = Router()
    assert {router.partition("foobar", 7) for _ in range(5)} == {0x85944171F73967E8 % 7}
    assert [router.partition(None, 3) for _ in range(5)] == [0, 1, 2, 0, 1]
    assert router.partition("any", 1) == 0
