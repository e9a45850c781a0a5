from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from danube_client.stream.received import CreditWindow

WINDOW = (100, 1000)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 600))))
def test_a_stream_has_one_window_at_most_and_is_never_out_of_credit(taken: list[tuple[int, int]]) -> None:
    due = 0

    def on_due() -> None:
        nonlocal due
        due += 1

    window = CreditWindow(*WINDOW, on_due)
    granted = window.begin()
    messages = size = 0
    for wanted, wanted_size in taken:
        more = min(wanted, granted.messages_total - messages), min(wanted_size, granted.bytes_total - size)
        messages, size, before = messages + more[0], size + more[1], due
        window.take(*more)
        assert (due > before) == window.due
        if window.due:
            granted = window.grant()
        assert messages + WINDOW[0] // 2 < granted.messages_total <= messages + WINDOW[0]
        assert size + WINDOW[1] // 2 < granted.bytes_total <= size + WINDOW[1]


def test_a_new_stream_begins_with_a_whole_window() -> None:
    window = CreditWindow(*WINDOW, lambda: None)
    window.begin()
    window.take(90, 10)

    again = window.begin()

    assert (again.messages_total, again.bytes_total) == WINDOW
    assert not window.due
