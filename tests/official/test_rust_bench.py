from __future__ import annotations

from pathlib import Path

import pytest
from tests.official.rust_bench import CannotBuild, build, measure

from danube_harness.platforms.standalone import Platform

SECONDS = 2.0

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return build()
    except CannotBuild as error:
        pytest.skip(str(error))


def test_the_official_rust_client_publishes_and_consumes(program: Path, tmp_path: Path) -> None:
    with Platform.run(tmp_path / "platform") as platform:
        url = f"http://{platform.gateway_addr}"
        for kind in ("non-reliable", "disk"):
            found = measure(program, url, "produce", kind, 32, SECONDS)
            print(f"\n32 producers, {kind}: {found['publish_per_s']:.0f} msg/s, {found['publish']}")
            assert found["publish"]["count"] > 0
        found = measure(program, url, "consume", "disk", 1, SECONDS)
        print(f"\nconsumed with awaited acks, disk: {found['consume_per_s']:.0f} msg/s, {found}")
        assert found["received"] > 0
        assert (found["lost"], found["duplicated"], found["reordered"]) == (0, 0, 0)
