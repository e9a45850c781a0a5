"""Load reports for the pure tests."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from danube_common.cluster.load import BundleLoad, LoadReport
from danube_common.model.bundle import Bundle, Family

OWNERS = [f"owner-{n}" for n in range(5)]
BUNDLES = [Bundle(family, number) for family in Family for number in range(8)]

amounts = st.sampled_from([0, 1, 7, 50, 3000])
loads = st.tuples(amounts, amounts, amounts, amounts).map(
    lambda four: BundleLoad(
        topics=four[0],
        consumers=four[1],
        in_bytes_per_s=float(four[2]),
        unacked=four[3],
        behind=four[3] // 50,
    )
)


def report(
    owner: str, bundles: Mapping[Bundle, BundleLoad], *, cpu: float = 0.0, memory: float = 0.0, at_ms: int = 0
) -> LoadReport:
    return LoadReport(
        owner, at_ms, 5.0, cpu, 0, memory, {str(bundle): load for bundle, load in bundles.items()}
    )


@st.composite
def clusters(draw: st.DrawFn) -> tuple[dict[Bundle, str], dict[str, LoadReport]]:
    """Who has what, and what each owner reports of it."""
    owners = draw(st.lists(st.sampled_from(OWNERS), min_size=1, max_size=5, unique=True))
    assigned = {bundle: draw(st.sampled_from(owners)) for bundle in BUNDLES[: draw(st.integers(1, 16))]}
    reports = {
        owner: report(
            owner,
            {bundle: draw(loads) for bundle, held in assigned.items() if held == owner},
            cpu=draw(st.integers(0, 120)),
            memory=draw(st.integers(0, 100)),
        )
        for owner in owners
    }
    return assigned, reports
