from __future__ import annotations

import pytest

from danube_faust.names import Names


def test_faust_s_own_topics_get_names_that_danube_takes() -> None:
    names = Names("shop")

    assert names.topic("orders-app.pay-changelog") == "/shop/orders-app-pay-changelog"
    assert names.topic("orders-__assignor-__leader") == "/shop/orders-__assignor-__leader"


def test_two_topics_never_share_a_name() -> None:
    names = Names()
    names.topic("a.b")

    with pytest.raises(ValueError, match="rename one of them"):
        names.topic("a-b")
    assert names.topic("a.b") == "/default/a-b"


def test_a_name_with_its_namespace_is_refused_and_the_right_one_is_told() -> None:
    with pytest.raises(ValueError, match=r"call it 'orders', and say faust\.App"):
        Names().topic("/default/orders")
