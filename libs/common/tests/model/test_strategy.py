from __future__ import annotations

import pytest

from danube_common.errors import InvalidInput
from danube_common.model.strategy import ReliableOptions, check_options


@pytest.mark.parametrize("size_mb", [0, 1, 20, 64])
def test_a_segment_size_that_has_an_effect_is_accepted(size_mb: int) -> None:
    check_options(ReliableOptions(segment_size_mb=size_mb))


@pytest.mark.parametrize("size_mb", [65, 1 << 20])
def test_a_segment_size_without_effect_is_refused_with_the_limit(size_mb: int) -> None:
    with pytest.raises(InvalidInput, match=f"segment_size is in MB and at most 64, not {size_mb}"):
        check_options(ReliableOptions(segment_size_mb=size_mb))
