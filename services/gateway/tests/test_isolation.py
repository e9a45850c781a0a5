from __future__ import annotations

import pytest

from danube_common.errors import DanubeError, Unavailable
from danube_gateway.isolation import CUT_OFF_S, Isolation


class Gateway:
    def __init__(self) -> None:
        self.now = 100.0
        self.reached = True
        self.ended: list[DanubeError] = []
        self.isolation = Isolation(lambda: self.reached, self.ended.append, clock=lambda: self.now)

    def after(self, seconds: float) -> int:
        """Advance the clock, check, and return how often the streams were ended."""
        self.now += seconds
        self.isolation.check()
        return len(self.ended)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_a_gateway_that_is_cut_off_ends_its_streams_and_those_that_open_later(gateway: Gateway) -> None:
    gateway.reached = False
    assert gateway.after(CUT_OFF_S) == 0
    assert gateway.after(0.1) == 1
    assert gateway.after(0.1) == 2
    assert all(isinstance(error, Unavailable) for error in gateway.ended)


def test_a_gateway_that_reaches_anybody_keeps_its_streams(gateway: Gateway) -> None:
    gateway.reached = False
    gateway.after(CUT_OFF_S)
    gateway.reached = True
    gateway.after(0.1)
    gateway.reached = False
    assert gateway.after(CUT_OFF_S) == 0
