from __future__ import annotations

import pytest

from danube_common.runtime.auth_config import GuardedPortConfig, is_loopback
from danube_common.runtime.config import ConfigError, load


def read(*argv: str) -> GuardedPortConfig:
    return load("gateway", GuardedPortConfig, list(argv), {}).config


@pytest.mark.parametrize("addr", ["0.0.0.0:1", "[::]:1", "192.0.2.7:1", "gateway:1", "127.example:1"])
def test_an_address_that_others_reach_needs_authentication_or_the_word_insecure(addr: str) -> None:
    with pytest.raises(ConfigError, match="nobody is asked for credentials"):
        read("--grpc-addr", addr)
    assert read("--grpc-addr", addr, "--insecure").insecure
    assert read("--grpc-addr", addr, "--auth-enabled").auth.enabled


@pytest.mark.parametrize("addr", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.3.2.1:0"])
def test_this_machine_alone_may_stay_open(addr: str) -> None:
    assert is_loopback(read("--grpc-addr", addr).grpc_addr)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--auth-issuer", "x"], "issuer needs enabled"),
        (["--auth-super-admins", "root"], "super_admins needs enabled"),
        (["--auth-enabled", "--auth-audit-required"], "audit_required needs audit_file"),
        (["--auth-enabled", "--auth-jwks-url", "http://example.com/keys"], "must be https"),
        (["--auth-enabled", "--auth-jwks-url", "file:///etc/passwd"], "must be https"),
    ],
)
def test_settings_that_would_do_nothing_or_harm_are_refused(argv: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(*argv)
