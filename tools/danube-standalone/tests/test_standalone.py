"""The launcher and a real NATS server, with stand-ins for the services."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from danube_harness.process_death import die_with_parent
from danube_standalone.__main__ import arguments, layout_of, main
from danube_standalone.programs import SERVICE_MODULES, http_addresses

STAND_IN = Path(__file__).with_name("stand_in.py")
SERVICES = ("gateway", "topic-owner", "storage", "admin")
WAIT_S = 40.0
POLL_S = 0.02


def until(met: Callable[[], Any], what: str) -> Any:
    """The first true answer; files and pids of other processes can only be asked again and again."""
    deadline = time.monotonic() + WAIT_S
    while not (answer := met()):
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(POLL_S)
    return answer


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Launcher:
    """danube-standalone as a process, in a session of its own as a terminal would give it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.ready_file = directory / "ready.json"
        self.trace_file = directory / "trace"
        self.err_file = directory / "err"
        self.out_file = directory / "out"
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._modules = directory / "modules"
        for service in SERVICES:
            package = self._modules / SERVICE_MODULES[service]
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            shutil.copy(STAND_IN, package / "__main__.py")

    def quick_disk_watch(self) -> None:
        """Let the launcher look at its disk more often."""
        (self._modules / "sitecustomize.py").write_text(
            "import danube_standalone.standalone as s; vars(s)['DISK_INTERVAL_S'] = 0.1"
        )

    def begin(self, *flags: str, **faults: str) -> subprocess.Popen[bytes]:
        with self.err_file.open("wb") as err, self.out_file.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "danube_standalone", "--data-dir", str(self.data)),
                    *("--gateway-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--nats-port", "0"),
                    *("--http-addr", "127.0.0.1:0", "--ready-file", str(self.ready_file), *flags),
                ],
                env={
                    **os.environ,
                    "PYTHONPATH": str(self._modules),
                    "STAND_IN_TRACE": str(self.trace_file),
                    **{f"STAND_IN_{service.upper()}": fault for service, fault in faults.items()},
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - plain calls only
            )
        return self.process

    def start(self, *flags: str, **faults: str) -> dict[str, Any]:
        process = self.begin(*flags, **faults)
        until(lambda: self.ready_file.exists() or process.poll() is not None, "ready")
        assert process.poll() is None, self.err
        until(lambda: "Ctrl-C stops it" in self.out, "the ready block")
        return cast("dict[str, Any]", json.loads(self.ready_file.read_text()))

    def status(self) -> int:
        assert self.process is not None
        return self.process.wait(WAIT_S)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.status()

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def state(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads((self.data / "state.json").read_text()))

    @property
    def trace(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.trace_file.read_text().splitlines()]

    def facts(self, service: str) -> list[str]:
        return [one["fact"] for one in self.trace if one["service"] == service]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    if launcher.process is not None and launcher.process.poll() is None:
        launcher.process.kill()
        launcher.process.wait()


def connects(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return True
    return False


def test_one_block_names_every_address_and_the_ready_file_every_process(launcher: Launcher) -> None:
    ready = launcher.start()
    assert set(ready["pids"]) == {"nats", *SERVICES}
    assert all(is_alive(pid) for pid in ready["pids"].values())
    assert connects(ready["gateway_addr"])
    assert connects(ready["admin_addr"])
    assert connects(ready["nats_url"].removeprefix("nats://"))
    for said in (ready["gateway_addr"], ready["admin_addr"], ready["nats_url"], str(launcher.data)):
        assert said in launcher.out
    for service in SERVICES:
        url = ready["addresses"][service]["http_url"]
        assert url in launcher.out
        assert connects(url.removeprefix("http://"))
    assert launcher.state == ready
    assert launcher.err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_services_are_stopped_before_nats_gateways_first_and_nothing_is_left(
    launcher: Launcher, number: signal.Signals
) -> None:
    ready = launcher.start()
    os.killpg(ready["pid"], number)  # as a terminal sends Ctrl-C: to the whole foreground group
    assert launcher.status() == 0
    assert not any(is_alive(pid) for pid in ready["pids"].values())
    for service in SERVICES:
        assert launcher.facts(service) == ["started", "SIGTERM", "ended"]
    stops = [one["service"] for one in launcher.trace if one["fact"] in ("SIGTERM", "ended")]
    assert stops[:2] == ["gateway", "gateway"]
    assert "Server Exiting" in (launcher.data / "logs" / "nats.log").read_text()
    assert launcher.err == ""
    assert not launcher.ready_file.exists()


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_as_the_same_instance_at_the_same_addresses(
    launcher: Launcher, service: str
) -> None:
    ready = launcher.start()
    os.kill(ready["pids"][service], signal.SIGKILL)
    until(lambda: f"{service} is ready again" in launcher.err, "the restart")
    state = launcher.state
    assert state["pids"][service] != ready["pids"][service]
    before, after = ready["addresses"][service], state["addresses"][service]
    assert {**before, "pid": ""} == {**after, "pid": ""}
    told = [line for line in launcher.err.splitlines() if f" {service} " in line]
    assert len(told) == 2, "one line of the end and one of the restart"
    assert f"{service} was ended by SIGKILL (starting it again in 0.1 s; its log is " in told[0]
    others = {name: pid for name, pid in ready["pids"].items() if name != service}
    assert {name: state["pids"][name] for name in others} == others
    assert launcher.stop() == 0


def test_a_killed_nats_comes_back_on_its_port(launcher: Launcher) -> None:
    ready = launcher.start()
    os.kill(ready["pids"]["nats"], signal.SIGKILL)
    until(lambda: "nats is ready again" in launcher.err, "the restart")
    assert launcher.state["nats_url"] == ready["nats_url"]
    assert connects(ready["nats_url"].removeprefix("nats://"))
    assert launcher.stop() == 0


def test_children_die_with_a_killed_launcher_and_the_next_one_takes_over(launcher: Launcher) -> None:
    first = launcher.start()
    assert launcher.process is not None
    launcher.process.kill()
    launcher.process.wait()
    until(lambda: not any(is_alive(pid) for pid in first["pids"].values()), "the children's end")
    second = launcher.start()
    assert {name: told["instance_id"] for name, told in second["addresses"].items() if name != "nats"} == {
        name: told["instance_id"] for name, told in first["addresses"].items() if name != "nats"
    }
    assert launcher.stop() == 0


def test_a_second_launcher_on_the_same_data_is_refused_and_harms_nothing(
    launcher: Launcher, tmp_path: Path
) -> None:
    ready = launcher.start()
    second = subprocess.run(
        [sys.executable, "-m", "danube_standalone", "--data-dir", str(launcher.data)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr == (
        f"danube-standalone: {launcher.data} is in use by another danube-standalone (pid {ready['pid']})\n"
    )
    assert launcher.state == ready
    assert launcher.stop() == 0


@pytest.mark.parametrize("flag", ["--gateway-addr", "--admin-addr", "--http-addr", "--nats-port"])
def test_a_taken_port_is_one_line_that_names_flag_and_address(launcher: Launcher, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        launcher.begin(flag, str(port) if flag == "--nats-port" else f"127.0.0.1:{port}")
        assert launcher.status() == 1
    assert launcher.err == (
        f"danube-standalone: cannot listen on 127.0.0.1:{port}: Address already in use ({flag})\n"
    )
    assert not launcher.trace_file.exists()


def test_a_service_that_fails_at_start_ends_the_launcher_and_shows_why(launcher: Launcher) -> None:
    launcher.begin(storage="crash")
    assert launcher.status() == 1
    assert launcher.err == (
        "danube-standalone: storage ended with status 1\ndanube-standalone:   stand-in: it went wrong\n"
    )
    assert launcher.out == ""
    assert not any(is_alive(one["pid"]) for one in launcher.trace)
    assert "Server Exiting" in (launcher.data / "logs" / "nats.log").read_text()


def test_the_platform_is_ready_only_when_every_service_says_so(launcher: Launcher) -> None:
    ready = launcher.start(gateway="slow", storage="slow")
    assert connects(ready["gateway_addr"])
    assert launcher.stop() == 0


def test_a_stop_while_starting_is_obeyed(launcher: Launcher) -> None:
    launcher.begin(gateway="never-ready")
    until(lambda: launcher.trace_file.exists() and launcher.facts("gateway"), "the gateway's start")
    assert launcher.stop() == 0
    assert not any(is_alive(one["pid"]) for one in launcher.trace)
    assert launcher.out == ""


def test_a_service_that_ignores_the_stop_is_killed_in_bounded_time(launcher: Launcher) -> None:
    ready = launcher.start(storage="deaf")
    assert launcher.stop() == 0
    assert launcher.facts("storage") == ["started", "SIGTERM"]
    assert not any(is_alive(pid) for pid in ready["pids"].values())
    assert launcher.err == "danube-standalone: storage did not stop within 4.5 s and was killed\n"


def test_a_second_signal_ends_everything_at_once(launcher: Launcher) -> None:
    ready = launcher.start(gateway="deaf")
    assert launcher.process is not None
    launcher.process.terminate()
    until(lambda: "SIGTERM" in launcher.facts("gateway"), "the first signal's effect")
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.status() == 128 + signal.SIGINT
    until(lambda: not any(is_alive(pid) for pid in ready["pids"].values()), "the end of all")


def test_several_instances_of_a_service_are_told_apart(launcher: Launcher) -> None:
    ready = launcher.start("--gateways", "2", "--gateway-ports", "each", "--topic-owners", "3")
    assert set(ready["pids"]) == {"nats", *SERVICES, "gateway-2", "topic-owner-2", "topic-owner-3"}
    told = [one for name, one in ready["addresses"].items() if name != "nats"]
    assert len({one["instance_id"] for one in told}) == len(told) == 7
    assert len({one["http_url"] for one in told}) == 7
    assert ready["addresses"]["gateway-2"]["grpc_addr"] != ready["gateway_addr"]
    assert launcher.stop() == 0


def test_several_gateways_listen_on_one_port(launcher: Launcher) -> None:
    ready = launcher.start("--gateways", "3", "--advertised-url", "http://danube.example:6650")
    addresses = [ready["addresses"][name] for name in ("gateway", "gateway-2", "gateway-3")]
    assert {one["grpc_addr"] for one in addresses} == {ready["gateway_addr"]}
    assert len({one["http_url"] for one in addresses}) == 3
    assert len({one["instance_id"] for one in addresses}) == 3
    flags = [
        one["flags"] for one in launcher.trace if one["service"] == "gateway" and one["fact"] == "started"
    ]
    assert [one["--advertised-url"] for one in flags] == ["http://danube.example:6650"] * 3
    os.kill(ready["pids"]["gateway-2"], signal.SIGKILL)
    until(lambda: "gateway-2 is ready again" in launcher.err, "the restart")
    started = [one["flags"].get("--grpc-addr") for one in launcher.trace if one["fact"] == "started"]
    assert started.count(ready["gateway_addr"]) == 4
    assert launcher.stop() == 0


def test_a_system_that_cannot_share_a_port_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    flags = ["--data-dir", str(tmp_path), "--gateways", "2", "--gateway-addr", "127.0.0.1:0"]
    assert main([*flags, "--admin-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]) == 1
    assert "cannot share a port among processes" in capsys.readouterr().err


def test_health_and_metrics_are_on_the_ports_after_the_given_one(launcher: Launcher) -> None:
    base = free_ports(14)
    ready = launcher.start("--http-addr", f"127.0.0.1:{base}", "--gateways", "2")
    urls = {name: one["http_url"] for name, one in ready["addresses"].items() if name != "nats"}
    offsets = {"admin": 0, "gateway": 1, "topic-owner": 2, "storage": 3, "gateway-2": 11}
    assert urls == {name: f"http://127.0.0.1:{base + offset}" for name, offset in offsets.items()}
    assert launcher.stop() == 0


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(20_000, 30_000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as listening:
            for port in range(first, first + count):
                listening.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


COUNTS = {"admin": 1, "gateway": 1, "topic-owner": 1, "storage": 2}


def test_by_default_health_and_metrics_are_on_documented_ports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: set[str] = set()
    monkeypatch.setattr("danube_standalone.__main__.is_free", lambda addr: addr not in taken)
    flags = ["--gateway-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--nats-port", "0"]
    layout = layout_of(arguments([*flags, "--storages", "2"], {}))
    assert layout.counts == COUNTS
    assert layout.http_addrs == {
        "admin": "127.0.0.1:9040",
        "gateway": "127.0.0.1:9041",
        "topic-owner": "127.0.0.1:9042",
        "storage": "127.0.0.1:9043",
        "storage-2": "127.0.0.1:9053",
    }
    taken.add("127.0.0.1:9041")
    again = layout_of(arguments([*flags, "--storages", "2"], {}))
    assert again.http_addrs == {**layout.http_addrs, "gateway": "127.0.0.1:0"}
    assert capsys.readouterr().err == (
        "danube-standalone: 127.0.0.1:9041 is in use: health and metrics of gateway are elsewhere"
        " (--http-addr chooses)\n"
    )


def test_ports_beyond_the_last_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond 65535"):
        http_addresses("127.0.0.1:65530", COUNTS)
    assert set(http_addresses("127.0.0.1:0", COUNTS).values()) == {"127.0.0.1:0"}


def test_one_port_for_two_things_names_both(launcher: Launcher) -> None:
    port = free_ports(1)
    launcher.begin("--gateway-addr", f"127.0.0.1:{port}", "--admin-addr", f"127.0.0.1:{port}")
    assert launcher.status() == 1
    assert launcher.err.endswith(f"127.0.0.1:{port} (--admin-addr) has the port of --gateway-addr\n")


def test_a_flag_may_stand_in_the_environment_and_wins_over_it() -> None:
    environment = {"DANUBE_STANDALONE_STORAGES": "3", "DANUBE_STANDALONE_HTTP_ADDR": "127.0.0.1:7"}
    assert arguments([], environment).storages == 3
    assert arguments(["--storages", "2"], environment).storages == 2
    assert arguments([], environment).http_addr == "127.0.0.1:7"
    assert arguments([], {}).http_addr is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DANUBE_STANDALONE_STORAGES", "DANUBE_STANDALONE_STORAGES: must be 1..64, not 'x'"),
        ("DANUBE_STANDALONE_STORAGE", "did you mean DANUBE_STANDALONE_STORAGES?"),
        ("DANUBE_LOGLEVEL", "unknown environment variable DANUBE_LOGLEVEL, did you mean DANUBE_"),
        (
            "DANUBE_GATEWAY_HTTP_ADDR",
            "DANUBE_GATEWAY_HTTP_ADDR has no effect here, because danube-standalone sets it: use --http-addr",
        ),
        ("DANUBE_TOPIC_OWNER_INSTANCE_ID", "it is kept in the data directory"),
    ],
)
def test_a_wrong_variable_is_told(launcher: Launcher, name: str, said: str) -> None:
    launcher.environment[name] = "x"
    launcher.begin()
    assert launcher.status() == 2
    assert said in launcher.err


def test_the_platform_goes_on_when_its_state_cannot_be_written(launcher: Launcher) -> None:
    ready = launcher.start()
    state_file = launcher.data / "state.json"
    state_file.unlink()
    state_file.mkdir()
    os.kill(ready["pids"]["gateway"], signal.SIGKILL)
    until(lambda: "state.json cannot be written: Is a directory" in launcher.err, "the line")
    state_file.rmdir()
    until(lambda: "gateway is ready again" in launcher.err, "the restart")
    assert launcher.stop() == 0


def test_a_nats_that_takes_the_disk_for_full_is_started_again_when_there_is_room(launcher: Launcher) -> None:
    launcher.quick_disk_watch()
    ready = launcher.start()
    log = launcher.data / "logs" / "nats.log"
    deadline = time.monotonic() + WAIT_S
    while is_alive(ready["pids"]["nats"]):
        with log.open("a") as file:
            file.write(f"[1] {time.monotonic()} [ERR] JetStream failed to store: no space left on device\n")
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
    until(lambda: "nats is ready again" in launcher.err, "the restart")
    assert "nats takes the disk for full, and " in launcher.err
    assert launcher.stop() == 0


def test_of_gateways_with_a_port_each_only_the_first_advertises_the_given_url(launcher: Launcher) -> None:
    launcher.start(
        "--gateways", "2", "--gateway-ports", "each", "--advertised-url", "http://danube.example:6650"
    )
    given = [one["flags"].get("--advertised-url") for one in launcher.trace if one["service"] == "gateway"]
    assert sorted(given, key=str) == [None, "http://danube.example:6650"]
    assert launcher.stop() == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--gateway-addr", "6650"), "not an address of the form host:port: '6650'"),
        (("--topic-owners", "0"), "must be 1..64, not '0'"),
        (("--ready-seconds-max", "soon"), "must be a number above 0, not 'soon'"),
        (("--nats-port", "70000"), "not an address"),
        (("--data-dir", ""), "is empty"),
        (("--gateway-ports", "two"), "must be one or each, not 'two'"),
        (("--unknown",), "--unknown"),
        (("--gateway-addr", "http://127.0.0.1:6650"), "without a scheme"),
        (("--advertised-url", "danube.example:6650"), "not a URL of the form http://host:port"),
        (("--ready-file", "/nowhere/ready.json"), "/nowhere is not a directory that can be written"),
        (("--ready-file", "/"), "/ is a directory"),
    ],
)
def test_wrong_usage_is_told(launcher: Launcher, flags: tuple[str, ...], said: str) -> None:
    launcher.begin(*flags)
    assert launcher.status() == 2
    assert said in launcher.err


def test_the_launcher_needs_no_slow_library() -> None:
    code = (
        "import sys\n"
        "import danube_standalone.__main__\n"
        "sys.exit(bool({'grpc', 'google.protobuf', 'aetcd', 'pydantic', 'structlog'} & set(sys.modules)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
