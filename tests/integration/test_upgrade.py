"""A rolling upgrade from the version before, and back, under load: nothing is lost, skipped or reordered."""

from __future__ import annotations

import compileall
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from danube_harness.platforms.cluster import ClusterPlatform
from danube_harness.platforms.service_process import ServiceProcess
from danube_harness.traffic.load import Load

ROOT: Final = Path(__file__).resolve().parents[2]
FIRST_READABLE: Final = "3f3e00c"
"""The version before while there is no tag: stored formats and what travels on the bus are those of 0.1.0."""
IN_ORDER: Final = ("admin", "topic-owner", "storage", "gateway")
"""As docs/operations/upgrade.md restarts them."""
START_S_MAX: Final = 240.0
"""Eight processes start at once."""
TWO_OF_EACH: Final = dict.fromkeys(IN_ORDER, 2)


def git(*words: str) -> bytes:
    command = [shutil.which("git") or "git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, check=True).stdout


def version_before() -> str:
    """The newest tag of a release that is not this commit's own; FIRST_READABLE if there is none."""
    listed = git("tag", "--merged", "HEAD~1", "--list", "v*", "--sort=-v:refname")
    released = listed.decode().split()
    return released[0] if released else FIRST_READABLE


@pytest.fixture
def sources_before(tmp_path: Path) -> list[Path]:
    """The import folders of the version before; what they need beside them is installed for this one."""
    try:
        archive = git("archive", version_before())
    except subprocess.CalledProcessError:
        pytest.skip("the version before is not in this clone: fetch the whole history")
    tree = tmp_path / "before"
    tree.mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
        unpacked.extractall(tree, filter="data")
    compileall.compile_dir(tree, quiet=1)  # once, and not by eight processes at the same time
    return sorted(path.parent.parent for path in tree.glob("*/**/src/*/__init__.py"))


def imported_from(environment: dict[str, str]) -> Path:
    """Where a process with these variables finds its code."""
    code = "import danube_topic_owner; print(danube_topic_owner.__file__)"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return Path(ended.stdout.strip())


async def restart_all(
    platform: ClusterPlatform, load: Load, kinds: Sequence[str], sources: list[Path]
) -> None:
    """Restart one instance after another, each as the version in ``sources``, while messages flow."""
    for kind in kinds:
        for process in platform.of_kind(kind):
            await process.stop()
            process.run_from(sources)
            await process.start()
            await load.until_flowing()


@pytest.mark.acceptance  # sixteen restarts, and a cluster
@pytest.mark.timeout(900)
async def test_a_rolling_upgrade_under_load_and_back_loses_nothing(
    tmp_path: Path, sources_before: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServiceProcess, "start_timeout_s", START_S_MAX)
    async with ClusterPlatform.run(tmp_path, TWO_OF_EACH, etcd_members=1, sources=sources_before) as platform:
        before = platform.of_kind("topic-owner")[0].environment
        assert tmp_path in imported_from(before).parents, "the version before runs"
        async with Load.run(platform.gateway_urls) as load:
            await load.until_flowing()
            await restart_all(platform, load, IN_ORDER, [])
            await restart_all(platform, load, IN_ORDER[::-1], sources_before)
            await load.finish()
            load.check()
