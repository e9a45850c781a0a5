"""The compose stack as a test sees it: from outside, and container by container."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import docker
import docker.errors
from docker.models.containers import Container
from docker.models.networks import Network
from testcontainers.compose import DockerCompose

from danube_harness.servers.server import HOST, free_ports

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE_DIR: Final = ROOT / "deploy" / "compose"
EARLY: Final = Path(__file__).with_name("early.yml")
STAND_INS: Final = Path(__file__).with_name("servers.Dockerfile")
STAND_INS_TAG: Final = "danube-test-servers:latest"
FOREIGN: Final = ("NATS", "ETCD", "S3", "HAPROXY", "PROMETHEUS")
"""Each has a variable DANUBE_<NAME>_IMAGE in the compose file."""

NATS_PASSWORDS: Final = tuple(
    f"DANUBE_NATS_{user}_PASSWORD" for user in ("GATEWAY", "TOPIC_OWNER", "STORAGE", "ADMIN", "OPERATOR")
)
COMMAND_TIMEOUT_S: Final = 600.0
HEALTHY_TIMEOUT_S: Final = 120.0
POLL_INTERVAL_S: Final = 0.2
LOG_LINES_SHOWN: Final = 40
OFFICIAL: Final = {"gateway": 2, "topic-owner": 3, "storage": 2}
"""The scale that the documentation shows."""


class Stack:
    """One project of the compose files, with ports and credentials of its own. All calls block.

    Attributes:
        project: its name.
        client: the engine.
        gateway_url: the client port from outside.
        admin_url: the administration port from outside.
        prometheus_url: its web port from outside.
    """

    def __init__(
        self,
        files: Sequence[str],
        directory: Path,
        client: docker.DockerClient,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.project = f"danube-test-{secrets.token_hex(4)}"
        self.client = client
        gateway, admin, prometheus = free_ports(3)
        self.gateway_url = f"http://{HOST}:{gateway}"
        self.admin_url = f"http://{HOST}:{admin}"
        self.prometheus_url = f"http://{HOST}:{prometheus}"
        self._settings = {
            "COMPOSE_PROJECT_NAME": self.project,
            "DANUBE_TAG": self.project,
            "DANUBE_GATEWAY_PORT": str(gateway),
            "DANUBE_ADMIN_PORT": str(admin),
            "DANUBE_PROMETHEUS_PORT": str(prometheus),
            "DANUBE_S3_ACCESS_KEY_ID": secrets.token_hex(8),
            "DANUBE_S3_SECRET_ACCESS_KEY": secrets.token_hex(16),
            **{name: f"p{secrets.token_hex(16)}" for name in NATS_PASSWORDS},
            **settings,
        }
        env_file = directory / f"{self.project}.env"
        self._compose = DockerCompose(
            context=COMPOSE_DIR, compose_file_name=list(files), env_file=[str(env_file)]
        )
        self._write_settings(env_file)
        if not self._reaches_foreign_images():
            self._settings |= {f"DANUBE_{name}_IMAGE": STAND_INS_TAG for name in FOREIGN}
            self._write_settings(env_file)

    @classmethod
    @contextmanager
    def built(
        cls,
        directory: Path,
        client: docker.DockerClient,
        *,
        overlays: Sequence[str] = (),
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[Stack]:
        """A stack whose images are built; removed with its volumes and images at the end."""
        stack = cls(["docker-compose.yml", *overlays, str(EARLY)], directory, client, settings)
        try:
            stack.build()
            yield stack
        finally:
            stack.compose("down", "--volumes", "--rmi", "local", "--timeout", "1", "--remove-orphans")
            for image in client.images.list(filters={"reference": f"danube-*:{stack.project}"}):
                client.images.remove(str(image.id), force=True)

    @property
    def stood_in(self) -> bool:
        """Whether other people's images were out of reach."""
        return "DANUBE_NATS_IMAGE" in self._settings

    @property
    def secrets(self) -> list[str]:
        """What must be found nowhere but where it is needed."""
        return [self._settings[name] for name in ("DANUBE_S3_SECRET_ACCESS_KEY", *NATS_PASSWORDS)]

    def build(self) -> float:
        """Build our images, and the stand-ins if they are needed; returns the seconds it took."""
        began = time.monotonic()
        if self.stood_in:
            run(["docker", "build", "--quiet", "--tag", STAND_INS_TAG, "-"], given=STAND_INS.read_bytes())
        self.compose("build", "--quiet")
        return time.monotonic() - began

    def up(self, **scale: int) -> float:
        """Bring it up at this scale (``topic_owner=3``), `OFFICIAL` where nothing is said.

        Returns the seconds until every container is healthy.
        """
        wanted = OFFICIAL | {name.replace("_", "-"): count for name, count in scale.items()}
        flags = [part for name, count in wanted.items() for part in ("--scale", f"{name}={count}")]
        began = time.monotonic()
        try:
            self.compose("up", "--detach", "--no-build", "--wait", *flags)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.logs()}") from None
        return time.monotonic() - began

    def down(self) -> None:
        """Remove the containers and the network; the volumes stay."""
        self.compose("down")

    def compose(self, *arguments: str) -> str:
        """``docker compose`` on this project; returns what it wrote. Raises RuntimeError."""
        return run([*self._compose.docker_compose_command(), *arguments], cwd=COMPOSE_DIR)

    def config(self) -> dict[str, Any]:
        """The files as the engine understands them."""
        return self._compose.get_config()

    def containers(self, service: str, *, running: bool = True) -> list[Container]:
        """The containers of a service by their numbers."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        found = self.client.containers.list(all=not running, filters={"label": labels})
        return sorted(found, key=lambda one: int(one.labels["com.docker.compose.container-number"]))

    def until_healthy(self, container: Container) -> None:
        """Returns when its health check is content. Raises RuntimeError when it takes too long."""
        deadline = time.monotonic() + HEALTHY_TIMEOUT_S
        while health(container) != "healthy":
            if time.monotonic() > deadline:
                raise RuntimeError(f"{container.name} is {health(container)}:\n{tail(container)}")
            time.sleep(POLL_INTERVAL_S)  # the engine's health has no event that can be missed and asked for

    @contextmanager
    def cut_off(self, container: Container) -> Iterator[None]:
        """Without the project's network, as if its cable were pulled; back under its names at the end."""
        network = self.network()
        names = container.attrs["NetworkSettings"]["Networks"][network.name]["Aliases"]
        network.disconnect(container, force=True)
        try:
            yield
        finally:
            network.connect(container, aliases=names)

    def network(self) -> Network:
        """What the containers reach each other by."""
        return self.client.networks.get(f"{self.project}_default")

    def logs(self) -> str:
        """The last lines of every container of ours and what state it is in."""
        told = [self.compose("ps", "--all")]
        for service in (*OFFICIAL, "admin", "balancer", "streams"):
            for container in self.containers(service, running=False):
                told += [f"--- {container.name}", tail(container)]
        return "\n".join(told)

    def _reaches_foreign_images(self) -> bool:
        for service in self.config()["services"].values():
            if "build" in service:
                continue
            try:
                self.client.images.get(service["image"])
            except docker.errors.ImageNotFound:
                try:
                    self.client.images.pull(service["image"])
                except docker.errors.APIError:
                    return False
        return True

    def _write_settings(self, env_file: Path) -> None:
        env_file.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))


def run(command: Sequence[str], *, cwd: Path = ROOT, given: bytes = b"") -> str:
    """A command's standard output. Raises RuntimeError with what it complained about."""
    done = subprocess.run(
        command, cwd=cwd, input=given, capture_output=True, check=False, timeout=COMMAND_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def health(container: Container) -> str:
    """``healthy``, ``starting``, ``unhealthy``, or the state of one that does not run or has no check."""
    container.reload()
    state: Mapping[str, Any] = container.attrs["State"]
    return str(state["Health"]["Status"] if state["Running"] and "Health" in state else state["Status"])


def tail(container: Container) -> str:
    """The last that a container wrote."""
    return str(container.logs(tail=LOG_LINES_SHOWN).decode(errors="replace"))
