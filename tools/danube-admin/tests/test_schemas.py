from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from danube_proto import danube_schema_pb2 as wire

SERVICE = "/danube_schema.SchemaRegistry"
AVRO = b'{"type": "record", "name": "R", "fields": []}'
REGISTERED = wire.RegisterSchemaResponse(schema_id=7, version=2, is_new_version=True, fingerprint="sha256:ab")
FOUND = wire.GetSchemaResponse(
    schema_id=7,
    version=2,
    subject="orders",
    schema_type="avro",
    schema_definition=AVRO,
    created_at=1_700_000_000,
    created_by="ann",
    tags=["x"],
    compatibility_mode="backward",
)


@pytest.fixture
def avsc(tmp_path: Path) -> str:
    (tmp_path / "orders.avsc").write_bytes(AVRO)
    return str(tmp_path / "orders.avsc")


def test_a_file_is_registered_with_the_type_of_its_name(service: Any, cli: Any, avsc: str) -> None:
    service.answers[f"{SERVICE}/RegisterSchema"] = REGISTERED
    ended = cli(
        *("schemas", "register", "orders", "--file", avsc, "--description", "all orders"),
        *("--tags", "a, b", "--tags", "c"),
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "subject: orders, schema_id: 7, version: 2, is_new_version: true, fingerprint: sha256:ab\n"
    )
    (request,) = [each for _, each in service.requests]
    assert (request.subject, request.schema_type, request.schema_definition) == ("orders", "avro", AVRO)
    assert (request.description, request.created_by, list(request.tags)) == (
        "all orders",
        "danube-admin",
        ["a", "b", "c"],
    )


def test_a_schema_comes_from_stdin_or_from_the_command_line(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/RegisterSchema"] = REGISTERED
    binary = b"\x0a\x01\xff"
    assert cli("schemas", "register", "o", "-t", "protobuf", "--file", "-", stdin=binary).code == 0
    assert cli("schemas", "register", "o", "-t", "json_schema", "--schema", "{}").code == 0
    assert cli("schemas", "register", "o", "-t", "string").code == 0
    given = [request.schema_definition for _, request in service.requests]
    assert given == [binary, b"{}", b""]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("register", "o", "--schema", "{}"), "type"),
        (("register", "o", "-t", "avro"), "give a file or a text"),
        (("register", "o", "-t", "avro", "--file", "a", "--schema", "b"), "either"),
        (("register", "o", "--file", "/no/such/file.avsc"), "No such file"),
        (("register", "o", "-t", "avro", "--file", "/"), "directory"),
        (("get",), "either"),
        (("get", "o", "--id", "3"), "either"),
        (("get", "o", "--subject", "p"), "either"),
        (("delete", "o", "--version", "1"), "--yes"),
        (("delete", "o", "--yes"), "--version"),
    ],
)
def test_wrong_usage_is_refused_before_any_call(
    service: Any, cli: Any, arguments: tuple[str, ...], reason: str
) -> None:
    ended = cli("schemas", *arguments)
    assert ended.code == 2
    assert reason in ended.err
    assert service.requests == []


def test_a_file_over_the_bound_is_refused_before_any_call(service: Any, cli: Any, tmp_path: Path) -> None:
    (tmp_path / "large.avsc").write_bytes(b"x" * 300_000)
    ended = cli("schemas", "register", "o", "--file", str(tmp_path / "large.avsc"))
    assert (ended.code, "262144" in ended.err, service.requests) == (2, True, [])


@pytest.mark.parametrize("arguments", [("orders",), ("--subject", "orders"), ("orders", "--version", "2")])
def test_a_schema_is_shown_with_its_definition(service: Any, cli: Any, arguments: tuple[str, ...]) -> None:
    service.answers[f"{SERVICE}/GetLatestSchema"] = FOUND
    ended = cli("schemas", "get", *arguments)
    assert ended.out.splitlines()[0] == "orders, version 2"
    assert ended.out.splitlines()[-1] == AVRO.decode()
    assert "BACKWARD" in ended.out
    as_json = json.loads(cli("schemas", "get", *arguments, "-o", "json").out)
    assert as_json["schema_definition"] == AVRO.decode()
    assert (as_json["schema_id"], as_json["version"], as_json["tags"]) == (7, 2, ["x"])


def test_a_version_is_asked_for_by_the_subject_s_id(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/GetLatestSchema"] = FOUND
    service.answers[f"{SERVICE}/GetSchema"] = wire.GetSchemaResponse(
        subject="orders", version=1, schema_definition=b"\xff\x00"
    )
    found = json.loads(cli("schemas", "get", "orders", "--version", "1", "-o", "json").out)
    assert found["schema_definition_base64"] == "/wA="
    assert service.requests[-1][1] == wire.GetSchemaRequest(schema_id=7, version=1)
    assert cli("schemas", "get", "--id", "7").code == 0
    assert service.requests[-1][1] == wire.GetSchemaRequest(schema_id=7)


def test_versions_and_subjects_are_listed(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/ListVersions"] = wire.ListVersionsResponse(
        versions=[
            wire.SchemaVersionInfo(version=1, created_at=1_700_000_000, created_by="ann", description="a\nb")
        ]
    )
    service.answers[f"{SERVICE}/ListSubjects"] = wire.ListSubjectsResponse(
        subjects=[
            wire.SubjectInfo(
                subject="orders", schema_type="avro", latest_version=2, compatibility_mode="full", schema_id=7
            )
        ]
    )
    listed = cli("schemas", "versions", "orders").out.splitlines()
    assert listed[0].split() == ["VERSION", "|", "CREATED", "|", "BY", "|", "DESCRIPTION"]
    assert listed[1].endswith("| ann | a b")
    assert json.loads(cli("schemas", "versions", "orders", "-o", "json").out)[0]["version"] == 1
    assert cli("schemas", "list-subjects").out.splitlines()[1].startswith("orders")
    (subject,) = json.loads(cli("schemas", "list-subjects", "-o", "json").out)
    assert (subject["compatibility_mode"], subject["latest_version"], subject["tags"]) == ("FULL", 2, [])


def test_a_check_ends_with_1_and_the_reasons_if_the_schema_is_not_compatible(
    service: Any, cli: Any, avsc: str
) -> None:
    check = f"{SERVICE}/CheckCompatibility"
    service.answers[check] = wire.CheckCompatibilityResponse(is_compatible=True)
    ended = cli("schemas", "check", "orders", "--file", avsc, "--mode", "full")
    assert (ended.code, ended.out) == (0, "Compatible: true\n")
    assert service.requests[0][1].compatibility_mode == "full"
    service.answers[check] = wire.CheckCompatibilityResponse(errors=["R.a: no default"])
    ended = cli("schemas", "check", "orders", "--file", avsc)
    assert (ended.code, ended.out) == (1, "Compatible: false\n  R.a: no default\n")
    assert not service.requests[1][1].HasField("compatibility_mode")
    ended = cli("schemas", "check", "orders", "--file", avsc, "-o", "json")
    assert (ended.code, json.loads(ended.out)) == (1, {"is_compatible": False, "errors": ["R.a: no default"]})


def test_the_mode_is_shown_and_set(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/GetLatestSchema"] = FOUND
    service.answers[f"{SERVICE}/SetCompatibilityMode"] = wire.SetCompatibilityModeResponse(success=True)
    assert cli("schemas", "get-compatibility", "orders").out == (
        "subject: orders, compatibility_mode: BACKWARD\n"
    )
    assert cli("schemas", "set-compatibility", "orders", "FULL").out == "Compatibility Set: true\n"
    assert service.requests[-1][1].compatibility_mode == "FULL"


@pytest.mark.parametrize("flag", ["--yes", "-y", "--confirm"])
def test_a_version_is_deleted_when_that_is_confirmed(service: Any, cli: Any, flag: str) -> None:
    service.answers[f"{SERVICE}/DeleteSchemaVersion"] = wire.DeleteSchemaVersionResponse(success=True)
    ended = cli("schemas", "delete", "orders", "--version", "3", flag)
    assert (ended.code, ended.out) == (0, "Version Deleted: true\n")
    assert service.requests[-1][1] == wire.DeleteSchemaVersionRequest(subject="orders", version=3)


def test_what_the_service_refuses_is_told_in_one_line(service: Any, cli: Any, avsc: str) -> None:
    service.answers[f"{SERVICE}/RegisterSchema"] = (grpc.StatusCode.FAILED_PRECONDITION, "not compatible")
    ended = cli("schemas", "register", "orders", "--file", avsc)
    assert (ended.code, ended.out, ended.err) == (1, "", "Error: not compatible\n")


def test_a_topic_s_subject_and_policy_are_set_and_shown(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/ConfigureTopicSchema"] = wire.ConfigureTopicSchemaResponse(success=True)
    service.answers[f"{SERVICE}/UpdateTopicValidationPolicy"] = wire.UpdateTopicValidationPolicyResponse(
        success=True
    )
    service.answers[f"{SERVICE}/GetTopicSchemaConfig"] = wire.GetTopicSchemaConfigResponse(
        schema_subject="orders", validation_policy="enforce", schema_id=7
    )
    configure = ("topics", "configure-schema", "/default/t", "--subject", "orders")
    assert cli(*configure, "--validation-policy", "warn", "--enable-payload-validation").code == 0
    assert service.requests[-1][1] == wire.ConfigureTopicSchemaRequest(
        topic_name="/default/t",
        schema_subject="orders",
        validation_policy="warn",
        enable_payload_validation=True,
    )
    policy = ("topics", "set-validation-policy", "/default/t", "--validation-policy", "enforce")
    assert cli(*policy).out == "Validation Policy Set: true\n"
    shown = json.loads(cli("topics", "get-schema-config", "/default/t", "-o", "json").out)
    assert shown == {
        "topic": "/default/t",
        "schema_subject": "orders",
        "validation_policy": "ENFORCE",
        "enable_payload_validation": False,
        "schema_id": 7,
    }
