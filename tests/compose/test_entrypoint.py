"""Who a scaled container is: it takes a directory of the shared volume, and the identity in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.compose.stack import ROOT

from danube_common.runtime.config import INSTANCE_ID_MAX
from danube_harness.process_death import die_with_parent

ENTRYPOINT = ROOT / "deploy" / "docker" / "entrypoint.sh"
WAIT_S = 20.0

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock of util-linux is not installed")

# In the place of Python: shows its environment and arguments, then stays until its input ends.
SERVICE = f"""#!/bin/sh
if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi
env | grep '^DANUBE_'
echo "arguments $*"
exec cat
"""


class Container:
    """One run of the entry point."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.environment: dict[str, str] = {}
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("arguments "):
                self.arguments = line.split()[1:]
                return
            name, _, value = line.rstrip("\n").partition("=")
            self.environment[name] = value
        raise AssertionError(f"it ended with {process.wait(WAIT_S)}")

    @property
    def data_dir(self) -> str:
        return self.environment["DANUBE_STORAGE_DATA_DIR"]

    @property
    def instance_id(self) -> str:
        return self.environment["DANUBE_STORAGE_INSTANCE_ID"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)


Start = Callable[..., Container]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    programs = tmp_path / "programs"
    programs.mkdir()
    stand_in = programs / "python"
    stand_in.write_text(SERVICE)
    stand_in.chmod(0o755)
    processes: list[subprocess.Popen[str]] = []

    def run(
        volume: Path | None,
        *arguments: str,
        service: str = "storage",
        environment: Mapping[str, str] | None = None,
    ) -> Container:
        given = {
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "SERVICE": service,
            **(environment or {}),
        }
        if volume is not None:
            volume.mkdir(exist_ok=True)
            given["DANUBE_SLOTS_DIR"] = str(volume)
        process = subprocess.Popen(
            ["/bin/sh", ENTRYPOINT, *arguments],
            env=given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - only plain calls, see there
        )
        processes.append(process)
        return Container(process)

    yield run
    for process in processes:
        process.kill()
        process.communicate(timeout=WAIT_S)


def test_instances_that_run_together_share_neither_directory_nor_identity(
    start: Start, tmp_path: Path
) -> None:
    together = [start(tmp_path / "volume") for _ in range(4)]
    assert len({one.data_dir for one in together}) == len({one.instance_id for one in together}) == 4
    assert all(Path(one.data_dir).is_dir() for one in together)
    assert all(1 <= int(one.instance_id) <= INSTANCE_ID_MAX for one in together)


def test_who_comes_after_a_killed_instance_has_its_directory_and_identity(
    start: Start, tmp_path: Path
) -> None:
    _first, second, _third = (start(tmp_path / "volume") for _ in range(3))
    second.kill()
    again = start(tmp_path / "volume")
    assert (again.data_dir, again.instance_id) == (second.data_dir, second.instance_id)


def test_all_identities_are_kept_when_every_container_is_made_anew(start: Start, tmp_path: Path) -> None:
    before = [start(tmp_path / "volume") for _ in range(3)]
    for one in before:
        one.kill()
    after = [start(tmp_path / "volume") for _ in range(3)]
    assert [one.instance_id for one in after] == [one.instance_id for one in before]


def test_an_identity_that_was_never_written_in_full_is_drawn_again(start: Start, tmp_path: Path) -> None:
    slot = tmp_path / "volume" / "1"
    slot.mkdir(parents=True)
    (slot / "instance-id").touch()
    (slot / "instance-id.new").write_text("12")
    only = start(tmp_path / "volume")
    assert only.data_dir == str(slot / "data")
    assert (slot / "instance-id").read_text().strip() == only.instance_id
    assert int(only.instance_id) != 12


OWNER = {"service": "topic-owner"}
OWNER_ID = "DANUBE_TOPIC_OWNER_INSTANCE_ID"


def test_a_container_that_is_started_again_is_the_same_instance(start: Start) -> None:
    first, again, other = (
        start(None, environment={"HOSTNAME": name}, **OWNER)
        for name in ("00000000000f", "00000000000f", "ffffffffffff")
    )
    assert first.environment[OWNER_ID] == again.environment[OWNER_ID] != other.environment[OWNER_ID]
    assert all(1 <= int(one.environment[OWNER_ID]) <= INSTANCE_ID_MAX for one in (first, other))


@pytest.mark.parametrize("name", ["owner", "0123456789AB", "0123456789abc", ""])
def test_a_name_that_several_containers_may_have_identifies_none(start: Start, name: str) -> None:
    assert start(None, environment={"HOSTNAME": name}, **OWNER).environment == {}


def test_an_identity_that_was_chosen_stays(start: Start) -> None:
    one = start(None, environment={"HOSTNAME": "0123456789ab", OWNER_ID: "7"}, **OWNER)
    assert one.environment == {OWNER_ID: "7"}


def test_the_service_gets_the_arguments(start: Start) -> None:
    one = start(None, "--config", "/etc/danube/danube.toml", **OWNER)
    assert one.arguments == ["-m", "danube_topic_owner", "--config", "/etc/danube/danube.toml"]
