from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from danube_harness.chaos.report import text
from danube_harness.chaos.run import CATCH_UP_S_MAX, RETURN_S_MAX, WHOLE_S_MAX, run
from danube_harness.chaos.run import RATE as DEFAULT_RATE
from danube_harness.traffic.clients import TOPICS, mass
from danube_harness.traffic.load import OPEN_S_MAX

RATE = float(os.environ.get("CHAOS_RATE", DEFAULT_RATE))
FAULTS_S = float(os.environ.get("CHAOS_SECONDS", "40"))
TIMEOUT_S = FAULTS_S + OPEN_S_MAX + RETURN_S_MAX + CATCH_UP_S_MAX + WHOLE_S_MAX + 60


@pytest.mark.timeout(TIMEOUT_S)
async def test_nothing_acknowledged_is_lost_changed_or_reordered_whatever_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(2**32))
    with capsys.disabled():
        print(f"\nCHAOS_SEED={seed} chooses the faults")
    # The lines are there too when the run itself breaks down.
    topics = (*TOPICS, mass(RATE))
    outcome = await run(tmp_path / "data", seed=seed, duration_s=FAULTS_S, topics=topics, tell=print)
    with capsys.disabled():
        print(f"\n{text(outcome)}")
    assert outcome.struck
    assert outcome.archived.purged, "everything was still in the logs: nothing is proved about segments"
    assert not outcome.problems(), f"repeat it by CHAOS_SEED={seed}"
