from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform

SERVICE, API_KEYS = "/danube_admin.SecurityAdmin", "/danube_platform.ApiKeys"
SECRET = "a secret of the tests, longer than 32 bytes"
TOKENS = ("security", "tokens")


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\nan earlier secret, longer than 32 bytes as well\n")
    return str(file)


def test_a_token_is_one_that_the_platform_takes(cli: Any, secret: str) -> None:
    ended = cli(*TOKENS, "create", "--subject", "billing", "--secret-key-file", secret, "--ttl", "2h")
    claims = jwt.decode(ended.out.strip(), SECRET, algorithms=["HS256"])
    assert claims.pop("exp") - claims.pop("iat") == 7200
    assert claims == {
        "iss": "danube-auth",
        "sub": "billing",
        "principal_type": "service_account",
        "principal_name": "billing",
    }


def test_a_valid_token_is_shown_with_what_it_says(cli: Any, secret: str, tmp_path: Path) -> None:
    made = cli(
        *TOKENS, "create", "--subject", "alice", "--type", "user", "--secret-key-file", secret, "-o", "json"
    )
    file = tmp_path / "token"
    file.write_text(json.loads(made.out)["token"])
    shown = cli(*TOKENS, "validate", str(file), "--secret-key-file", secret, "-o", "json")
    assert json.loads(shown.out) == {"valid": True, "claims": json.loads(made.out)["claims"]}
    read = cli(*TOKENS, "validate", "--secret-key-file", secret, stdin=file.read_bytes())
    assert (read.code, read.out.splitlines()[0]) == (0, "Valid: true")


@pytest.mark.parametrize(
    ("claims", "key", "algorithm", "reason"),
    [
        ({"exp": -600}, SECRET, "HS256", "expired"),
        ({}, SECRET, "HS256", "expired"),
        ({"exp": 600, "nbf": 300}, SECRET, "HS256", "not valid yet"),
        ({"exp": 600}, "x" * 40, "HS256", "another secret"),
        ({"exp": 600}, "", "none", "no token of HS256"),
    ],
)
def test_a_token_that_is_not_valid_is_told_why(
    cli: Any, secret: str, claims: dict[str, int], key: str, algorithm: str, reason: str
) -> None:
    moments = {name: time.time() + after_s for name, after_s in claims.items()}
    token = jwt.encode(moments, key, algorithm=algorithm)
    ended = cli(*TOKENS, "validate", "--secret-key-file", secret, stdin=token.encode())
    assert (ended.code, reason in ended.err) == (1, True)
    for text in ("junk", "a.b.c", "", "e30.e30.e30"):
        assert cli(*TOKENS, "validate", "--secret-key-file", secret, stdin=text.encode()).code == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--ttl", "soon"), "no time such as"),
        (("--type", "root"), "none of user"),
        (("--secret-key-file", "/missing"), "cannot read"),
        (("--secret-key-file", "/dev/null"), "a secret is needed"),
    ],
)
def test_what_cannot_make_a_token_is_wrong_usage(
    cli: Any, secret: str, options: tuple[str, ...], reason: str
) -> None:
    ended = cli(*TOKENS, "create", "--subject", "a", "--secret-key-file", secret, *options)
    assert (ended.code, reason in ended.err, ended.out) == (2, True, "")


def test_a_short_secret_is_refused_and_not_told(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "weak"
    file.write_text("hunter2")
    ended = cli(*TOKENS, "create", "--subject", "a", "--secret-key-file", str(file))
    assert (ended.code, "hunter2" in ended.err + ended.out) == (2, False)


def test_roles_are_made_and_listed(service: Any, cli: Any) -> None:
    service.answers[f"{SERVICE}/CreateRole"] = wire.SecurityResponse(success=True)
    ended = cli("security", "roles", "create", "auditor", "-p", "Lookup", "-p", "Consume")
    assert (ended.code, ended.out) == (0, "Role Created: true\n")
    role = wire.RoleDefinition(name="auditor", permissions=["Lookup", "Consume"])
    assert service.requests[-1][1] == wire.CreateRoleRequest(role=role)
    service.answers[f"{SERVICE}/ListRoles"] = wire.RoleListResponse(roles=[role])
    assert cli("security", "roles", "list").out.splitlines()[-1].split() == [
        *("auditor", "|", "no", "|", "Lookup,", "Consume"),
    ]
    assert json.loads(cli("security", "roles", "list", "-o", "json").out) == [
        {"name": "auditor", "permissions": ["Lookup", "Consume"], "system": False}
    ]
    service.answers[f"{SERVICE}/GetRole"] = wire.RoleResponse(role=role)
    assert json.loads(cli("security", "roles", "get", "auditor", "-o", "json").out)["name"] == "auditor"


def test_bindings_are_made_found_and_deleted(service: Any, cli: Any) -> None:
    done = wire.SecurityResponse(success=True)
    service.answers |= {f"{SERVICE}/{verb}Binding": done for verb in ("Create", "Delete")}
    where = ("--scope", "topic", "--resource", "/orders/eu*")
    made = cli(
        *("security", "bindings", "create", "--principal", "user:a:b", "-r", "viewer"), *where, "-o", "json"
    )
    sent = service.requests[-1][1].binding
    assert (sent.principal_type, sent.principal_name, list(sent.role_names)) == ("user", "a:b", ["viewer"])
    assert json.loads(made.out) == {"success": True, "id": sent.id}
    service.answers[f"{SERVICE}/ListAllBindings"] = wire.BindingListResponse(bindings=[sent])
    service.answers[f"{SERVICE}/GetBinding"] = wire.BindingResponse(binding=sent)
    told = json.loads(cli("security", "bindings", "get", sent.id, *where, "-o", "json").out)
    assert (told["id"], told["principal_name"], told["role_names"]) == (sent.id, "a:b", ["viewer"])
    assert f"{sent.id} | user:a:b  | viewer | topic | /orders/eu*" in cli("security", "bindings", "list").out
    assert cli("security", "bindings", "delete", sent.id, *where, "--yes").out == "Binding Deleted: true\n"
    assert service.requests[-1][1] == wire.BindingRequest(
        scope="topic", resource_name="/orders/eu*", binding_id=sent.id
    )
    assert cli("security", "bindings", "create", "--principal", "alice", "-r", "viewer", *where).code == 2


def test_api_keys_are_made_listed_and_revoked(service: Any, cli: Any) -> None:
    info = platform.ApiKey(key_id="0011", principal_type="user", principal_name="al", created_ms=1000)
    service.answers[f"{API_KEYS}/CreateKey"] = platform.CreateKeyResponse(key="dk_0011_x", info=info)
    service.answers[f"{API_KEYS}/ListKeys"] = platform.ListKeysResponse(keys=[info])
    service.answers[f"{API_KEYS}/RevokeKey"] = platform.RevokeKeyResponse()
    assert cli("security", "keys", "create", "--principal", "user:al", "--ttl-days", "2").out == "dk_0011_x\n"
    assert service.requests[-1][1].ttl_s == 172_800
    assert "0011 | user:al   | 1970-01-01T00:00:01Z | never" in cli("security", "keys", "list").out
    assert cli("security", "keys", "revoke", "0011", "--yes").out == "Key Revoked: true\n"
