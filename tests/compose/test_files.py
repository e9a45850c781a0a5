"""What the files of the container stack say, read without a container engine."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cryptography import x509
from tests.compose.stack import COMPOSE_DIR, NATS_PASSWORDS, OFFICIAL, ROOT

from danube_common.cluster.key_writers import KINDS
from danube_common.runtime.config import Loaded, ServiceConfig, load
from danube_standalone.nats_config import (
    DEFAULT_FILE_STORE_BYTES_MAX,
    DEFAULT_MEMORY_STORE_BYTES_MAX,
    render_nats_config,
)
from danube_standalone.nats_users import OPERATOR, render_users
from danube_standalone.programs import SERVICE_MODULES

DOCKERFILE: Final = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
NATS_SERVER: Final = Path(sysconfig.get_path("scripts")) / "nats-server"
OWN: Final = {
    "gateway": "GatewayConfig",
    "topic-owner": "TopicOwnerConfig",
    "storage": "StorageConfig",
    "admin": "AdminConfig",
}
CHOWNER: Final = "volumes"
"""Ends before anything else begins."""
CERTIFIER: Final = "certificates"
ONCE: Final = {CHOWNER, CERTIFIER, "users"}
"""These end."""
UNPRIVILEGED: Final = "10001:10001"
SECRET: Final = re.compile(r"KEY|SECRET|PASSWORD|TOKEN")
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")

Service = Mapping[str, Any]


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((COMPOSE_DIR / name).read_text())
    return content


BASE: Final = read("docker-compose.yml")
OVERLAY: Final = read("three-nodes.yml")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As Compose lays a service over another, as far as these files need it: lists of volumes add up."""
    both = {**below, **{name: value for name, value in above.items() if name != "extends"}}
    if "volumes" in below and "volumes" in above:
        by_place = {one.split(":")[1]: one for one in (*below["volumes"], *above["volumes"])}
        both["volumes"] = list(by_place.values())
    return both


def three_nodes() -> dict[str, Service]:
    """All services when the overlay is used."""
    found: dict[str, Service] = dict(BASE["services"])
    for name, service in OVERLAY["services"].items():
        below = BASE["services"][service["extends"]["service"] if "extends" in service else name]
        found[name] = merged(below, service)
    return found


SERVICES: Final = {"one": BASE["services"], "three": three_nodes()}


@pytest.fixture(params=sorted(SERVICES))
def services(request: pytest.FixtureRequest) -> dict[str, Service]:
    """The services of the stack, with one server of each kind or three."""
    return dict(SERVICES[request.param])


def made_for(folder: Path, *, renew: bool = False) -> None:
    """Make the certificates of the stack, each holder's in a folder of its own."""
    runpy.run_path(str(ROOT / "deploy" / "docker" / "certificates.py"))["make_all"](folder, renew=renew)


def words(service: Service) -> list[str]:
    """What is run in the container."""
    return [*service.get("entrypoint", ()), *service.get("command", ())]


def loaded(kind: str, *, file: str, environment: Mapping[str, str]) -> Loaded[ServiceConfig]:
    config_type = getattr(importlib.import_module(f"{SERVICE_MODULES[kind]}.service"), OWN[kind])
    found: Loaded[ServiceConfig] = load(kind, config_type, ["--config", str(COMPOSE_DIR / file)], environment)
    return found


def environment_of(service: Service) -> dict[str, str]:
    """As the container sees it, with the defaults of what a user may choose."""
    return {
        name: VARIABLE.sub(lambda found: found[3] if found[2] == "-" else "chosen", value)
        for name, value in service.get("environment", {}).items()
    }


def test_every_part_of_the_stack_is_there(services: dict[str, Service]) -> None:
    assert {*OWN, "balancer", "nats", "etcd", "s3", "prometheus"} <= services.keys()
    assert services.keys() - {*OWN, "balancer", "s3", "prometheus", "grafana", "streams"} - ONCE <= {
        f"{server}{number}" for server in ("nats", "etcd") for number in ("", "-2", "-3")
    }


def test_every_service_has_a_health_check(services: dict[str, Service]) -> None:
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)
    for name in services.keys() - ONCE:
        assert "build" in services[name] or services[name]["healthcheck"]["test"][0] == "CMD", name


def test_nothing_runs_with_a_privilege_it_does_not_need(services: dict[str, Service]) -> None:
    assert re.search(rf"^USER {UNPRIVILEGED}$", DOCKERFILE, re.MULTILINE)
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert "privileged" not in service, name
        if name != CHOWNER:
            assert service["user"] == UNPRIVILEGED, name
            assert "cap_add" not in service, name


def test_a_faust_worker_is_there_when_asked_for_and_has_nothing_of_the_services() -> None:
    worker = BASE["services"]["streams"]
    dockerfile = (ROOT / worker["build"]["dockerfile"]).read_text()
    assert worker["profiles"] == ["streams"]
    assert re.search(rf"^USER {UNPRIVILEGED}$", dockerfile, re.MULTILINE)
    assert "COPY services" not in dockerfile
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE)
    ignored = (ROOT / f"{worker['build']['dockerfile']}.dockerignore").read_text().splitlines()
    assert {f"!{one}" for line in copied for one in line.split()} - {"!libs/faust/examples"} == {
        line for line in ignored if line.startswith("!")
    }
    defaults = {found[1]: found[3] for found in VARIABLE.finditer(f"{worker['command']} {worker['volumes']}")}
    assert (COMPOSE_DIR / defaults["DANUBE_STREAMS_DIR"] / f"{defaults['DANUBE_STREAMS_APP']}.py").exists()
    (port,) = worker["ports"]
    assert port.endswith(f":{worker['command'][-1]}")
    assert f"EXPOSE {worker['command'][-1]}\n" in dockerfile
    assert environment_of(worker)["DANUBE_BROKER"] == "danube://balancer:6650"


def test_what_gives_the_volumes_away_can_do_nothing_else(services: dict[str, Service]) -> None:
    chowner = services[CHOWNER]
    assert (chowner["cap_add"], chowner["network_mode"], chowner["restart"]) == (["CHOWN"], "none", "no")
    given = {one.split(":")[0] for one in chowner["volumes"]}
    used = {
        one.split(":")[0]
        for name, service in services.items()
        if name != CHOWNER
        for one in service.get("volumes", ())
        if not one.endswith(":ro")
    }
    assert given == used
    for name, service in services.items():
        if name != CHOWNER and not given.isdisjoint(one.split(":")[0] for one in service.get("volumes", ())):
            awaited = {CHOWNER, CERTIFIER} & service["depends_on"].keys()
            assert awaited, name
            for one in awaited:
                assert service["depends_on"][one] == {"condition": "service_completed_successfully"}, name


def test_ports_are_published_on_the_loopback_only_and_by_nothing_that_is_scaled(
    services: dict[str, Service],
) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"balancer", "prometheus", "grafana", "streams"}
    assert not published.keys() & OFFICIAL.keys()
    for ports in published.values():
        assert all(re.match(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+$", port) for port in ports)


def test_clients_are_sent_to_the_port_that_is_published() -> None:
    environment = BASE["services"]["gateway"]["environment"]
    url = environment["DANUBE_GATEWAY_ADVERTISED_URL"]
    assert url.startswith("http://")
    (port,) = [port for port in BASE["services"]["balancer"]["ports"] if port.endswith(":6650")]
    assert url.rpartition(":${")[2] in port


@pytest.mark.parametrize(("backend", "port"), [("gateways", 6650), ("admins", 50051)])
def test_the_balancer_asks_each_server_whether_it_lives_and_listens(backend: str, port: int) -> None:
    section = (COMPOSE_DIR / "haproxy.cfg").read_text().partition(f"\nbackend {backend}\n")[2]
    rules = [line.strip() for line in section.split("\n\n")[0].splitlines()]
    assert [rule.removeprefix("tcp-check ") for rule in rules if rule.startswith("tcp-check ")] == [
        "connect port 9040",
        r'send "GET /livez HTTP/1.1\r\nHost: danube\r\nConnection: close\r\n\r\n"',
        "expect string 200",
        f"connect port {port}",
    ]
    assert any(re.fullmatch(rf"server-template \w+ \d+ \w+:{port}", rule) for rule in rules)


def test_a_server_image_has_a_chosen_version_and_may_come_from_elsewhere() -> None:
    for name, service in BASE["services"].items():
        if "build" not in service:
            found = VARIABLE.fullmatch(service["image"])
            assert found is not None, name
            assert re.search(r":v?\d+\.\d+", found[3]), name


def secrets_given() -> Iterator[tuple[str, str]]:
    for name, service in BASE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                yield f"{name} {variable}", value


def test_no_secret_is_written_down() -> None:
    found = dict(secrets_given())
    assert len(found) == 13  # S3's, and each service's at NATS, there and here
    for where, value in found.items():
        reference = VARIABLE.fullmatch(value)
        assert reference is not None, where
        # No default: without a value the stack does not start, and says why.
        assert (reference[2], reference[3]) == ("?", "has no value in .env, a copy of .env.example"), where
    example = (COMPOSE_DIR / ".env.example").read_text()
    for line in example.splitlines():
        name, separator, value = line.lstrip("#").partition("=")
        assert not (separator and SECRET.search(name) and value), line
    assert not [
        line for line in DOCKERFILE.splitlines() if line.startswith(("ARG", "ENV")) and SECRET.search(line)
    ]
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env" in (ROOT / "deploy/docker/Dockerfile.dockerignore").read_text().splitlines()


def test_every_variable_of_the_files_is_explained() -> None:
    text = "".join((COMPOSE_DIR / name).read_text() for name in ("docker-compose.yml", "three-nodes.yml"))
    explained = re.findall(r"^#?([A-Z]\w+)=", (COMPOSE_DIR / ".env.example").read_text(), re.MULTILINE)
    assert set(explained) == {found[1] for found in VARIABLE.finditer(text)}


def test_nats_is_configured_as_the_standalone_platform_is() -> None:
    rendered = render_nats_config(
        store_dir=Path("/data/jetstream"),
        host="0.0.0.0",  # noqa: S104
        server_name="nats",
        tls=Path("/tls"),
    )
    lines = (COMPOSE_DIR / "nats.conf").read_text().splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("#")) == rendered
    assert "  sync_interval: always\n" in lines


def test_the_users_of_nats_may_do_what_those_of_the_standalone_platform_may() -> None:
    users = {kind: f"$DANUBE_NATS_{kind.replace('-', '_').upper()}_PASSWORD" for kind in (*KINDS, OPERATOR)}
    lines = (COMPOSE_DIR / "nats-users.conf").read_text().splitlines(keepends=True)
    assert "".join(lines[1:]) == f"include nats.conf\n{render_users(users)}"
    for kind in KINDS:
        given = environment_of(BASE["services"][kind])
        prefix = f"DANUBE_{kind.replace('-', '_').upper()}_NATS"
        assert given[f"{prefix}_USER"] == kind
        password = BASE["services"][kind]["environment"][f"{prefix}_PASSWORD"]
        assert password == BASE["services"]["nats"]["environment"][users[kind].removeprefix("$")]


def test_each_holds_its_own_certificate_and_nobody_elses(services: dict[str, Service]) -> None:
    for name, service in services.items():
        if name in {CHOWNER, CERTIFIER}:
            continue
        kind = re.sub(r"-\d$", "", name)
        holder = "root" if name == "users" else kind
        held = [one for one in service.get("volumes", ()) if one.startswith("tls-")]
        expected = [f"tls-{holder}:/tls:ro"] if kind in {*OWN, "nats", "etcd", "users"} else []
        assert held == expected, name


def test_every_nats_server_reads_that_configuration_and_changes_nothing_of_it(
    services: dict[str, Service],
) -> None:
    allowed = {"--config", "--http_port", "--server_name", "--cluster_name", "--cluster", "--routes"}
    for name in (name for name in services if name.startswith("nats")):
        program, *flags = words(services[name])
        given = dict(flag.split("=", 1) for flag in flags)
        assert program == "nats-server"
        assert given["--config"] == "/etc/nats/users.conf"
        assert given.keys() <= allowed
        assert {"source": "nats", "target": "/etc/nats/nats.conf"} in services[name]["configs"]
        assert {"source": "nats-users", "target": "/etc/nats/users.conf"} in services[name]["configs"]
        assert "nats" not in OVERLAY["configs"]


def test_the_nats_server_accepts_what_the_files_say(services: dict[str, Service], tmp_path: Path) -> None:
    made_for(tmp_path)
    for file in ("nats.conf", "nats-users.conf"):
        text = (COMPOSE_DIR / file).read_text()
        (tmp_path / file).write_text(text.replace('"/tls/', f'"{tmp_path}/nats/'))
    for name in (name for name in services if name.startswith("nats")):
        flags = [flag for flag in words(services[name])[1:] if not flag.startswith("--config=")]
        command = [str(NATS_SERVER), "-t", f"--config={tmp_path / 'nats-users.conf'}", *flags]
        passwords = {**os.environ, **dict.fromkeys(NATS_PASSWORDS, "p1")}
        done = subprocess.run(command, env=passwords, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["danube.toml", "three-nodes.toml"])
@pytest.mark.parametrize("kind", sorted(OWN))
def test_a_service_takes_its_settings_from_the_files(kind: str, file: str) -> None:
    given = environment_of(BASE["services"][kind])
    found = loaded(kind, file=file, environment=given)
    prefix = f"DANUBE_{kind.replace('-', '_').upper()}_"
    known = {
        prefix + name.replace(".", "_").upper()
        for name, origin in found.origins.items()
        if origin == "environment"
    }
    assert known == {name for name in given if name.startswith("DANUBE_") and name != "DANUBE_SLOTS_DIR"}
    assert found.config.http_addr == "0.0.0.0:9040"


def test_health_and_metrics_are_asked_for_where_they_are_served() -> None:
    assert re.search(r"^EXPOSE 9040$", DOCKERFILE, re.MULTILINE)
    assert "PORT: Final = 9040" in (ROOT / "deploy/docker/ready.py").read_text()
    scraped = read("prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0]
    assert (set(scraped["names"]), scraped["port"]) == (set(OWN), 9040)


@pytest.mark.parametrize(("file", "nodes"), [("danube.toml", "one"), ("three-nodes.toml", "three")])
def test_services_are_told_of_every_server(file: str, nodes: str) -> None:
    config = loaded("gateway", file=file, environment={}).config
    servers = {kind: {name for name in SERVICES[nodes] if name.startswith(kind)} for kind in ("nats", "etcd")}
    assert set(config.etcd_endpoints) == {f"{name}:2379" for name in servers["etcd"]}
    assert set(config.nats_urls) == {f"nats://{name}:4222" for name in servers["nats"]}
    assert config.nats_replicas == len(config.nats_urls) == len(config.etcd_endpoints)


def test_three_servers_know_each_other_and_share_no_volume() -> None:
    servers = {name: one for name, one in three_nodes().items() if name.startswith(("nats", "etcd"))}
    places = [place for one in servers.values() for place in one["volumes"]]
    volumes = [place for place in places if not place.endswith(":ro")]
    assert len({place.split(":")[0] for place in volumes}) == len(servers) == 6
    for name, service in servers.items():
        text = " ".join(words(service))
        if name.startswith("nats"):
            assert f"--server_name={name}" in text
            assert all(f"nats://{other}:6222" in text for other in servers if other.startswith("nats"))
        else:
            assert f"--name={name}" in text
            assert f"--advertise-client-urls=https://{name}:2379" in text
            members = [f"{other}=https://{other}:2380" for other in servers if other.startswith("etcd")]
            assert all(member in text for member in members)
    # One server's data cannot become a member's: the two stacks share nothing.
    assert OVERLAY["name"] != BASE["name"]


@pytest.mark.parametrize("file", ["danube.toml", "three-nodes.toml"])
def test_the_logs_of_all_bundles_fit_the_store(file: str) -> None:
    given = environment_of(BASE["services"]["admin"])
    config = loaded("admin", file=file, environment=given).config
    files, memories = (int(given[f"DANUBE_ADMIN_BUNDLES_{family}"]) for family in ("FILE", "MEMORY"))
    # A half is left for the journals and for more bundles.
    assert 2 * files * config.bundle_log.file_bytes_max <= DEFAULT_FILE_STORE_BYTES_MAX
    assert 2 * memories * config.bundle_log.memory_bytes_max <= DEFAULT_MEMORY_STORE_BYTES_MAX


def test_both_files_of_settings_agree_on_what_is_not_about_servers() -> None:
    one, three = (
        tomllib.loads((COMPOSE_DIR / file).read_text()) for file in ("danube.toml", "three-nodes.toml")
    )
    servers = {"nats_url", "metadata", "nats_replicas"}
    assert {k: v for k, v in one.items() if k not in servers} == {
        k: v for k, v in three.items() if k not in servers
    }


def test_certificates_are_made_once_are_their_owners_and_can_be_renewed(tmp_path: Path) -> None:
    def found() -> dict[str, bytes]:
        return {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*.*")}

    made_for(tmp_path)
    first = found()
    assert {file.stat().st_mode & 0o777 for file in tmp_path.rglob("*.*")} == {0o600}
    made_for(tmp_path)
    assert found() == first
    made_for(tmp_path, renew=True)
    renewed = found()
    changed = {name for name, content in renewed.items() if content != first[name]}
    holders = (*OWN, "root", "nats", "etcd")
    assert changed == {f"{holder}/tls.{end}" for holder in holders for end in ("crt", "key")}
    authority = x509.load_pem_x509_certificate(renewed["authority/ca.crt"])
    for name in changed:
        if name.endswith(".crt"):
            x509.load_pem_x509_certificate(renewed[name]).verify_directly_issued_by(authority)
