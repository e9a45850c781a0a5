from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from danube_common.errors import InvalidInput
from danube_common.metadata.etcd_link import EtcdTls
from danube_common.runtime.config import ConfigError, Loaded, ServiceConfig, load
from danube_common.runtime.etcd_access import etcd_access
from danube_common.runtime.nats_access import nats_access
from danube_common.runtime.section import Section


class Limits(Section):
    calls_max: int = Field(default=10, ge=0, description="calls at one time")
    names: list[str] = Field(default=["a"], description="names")


class GateConfig(ServiceConfig):
    grpc_addr: str = Field(default="127.0.0.1:0", description="listen address, 100 % free text")
    fast: bool = Field(default=False, description="hurry")
    bytes_max: int | None = Field(default=None, description="bound")
    key: SecretStr = Field(default=SecretStr("none"), description="secret")
    limits: Limits = Limits()


def read(
    *argv: str, env: dict[str, str] | None = None, file: tuple[Path, str] | None = None
) -> Loaded[GateConfig]:
    arguments = list(argv)
    if file is not None:
        file[0].write_text(file[1])
        arguments += ["--config", str(file[0])]
    return load("topic-owner", GateConfig, arguments, env or {})


def test_nothing_given_means_every_default() -> None:
    loaded = read()
    assert loaded.config.http_addr == "127.0.0.1:0"
    assert loaded.config.limits.names == ["a"]
    assert set(loaded.origins.values()) == {"default"}


def test_two_processes_without_an_id_get_different_ones() -> None:
    ids = [read().config.instance_id for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(0 < int(one) < 1 << 63 for one in ids)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    toml = 'nats_url = "nats://file:1"\nlog_level = "error"\ngrpc_addr = "h:1"\n[limits]\ncalls_max = 1\n'
    env = {
        "DANUBE_TOPIC_OWNER_LOG_LEVEL": "warning",
        "DANUBE_TOPIC_OWNER_LIMITS_CALLS_MAX": "2",
        "DANUBE_TOPIC_OWNER_GRPC_ADDR": "h:2",
        "DANUBE_GATEWAY_HTTP_ADDR": "another:1",
        "DANUBE_TOPIC_OWNER_SERVICE_HOST": "what Kubernetes adds",
    }
    loaded = read("--grpc-addr", "h:3", env=env, file=(tmp_path / "c.toml", toml))
    assert loaded.config.nats_url == "nats://file:1"
    assert loaded.config.log_level == "warning"
    assert loaded.config.limits.calls_max == 2
    assert loaded.config.grpc_addr == "h:3"
    assert loaded.config.limits.names == ["a"]
    assert loaded.origins["nats_url"] == "file"
    assert loaded.origins["log_level"] == "environment"
    assert loaded.origins["limits.calls_max"] == "environment"
    assert loaded.origins["grpc_addr"] == "flag"
    assert loaded.origins["limits.names"] == "default"


def test_texts_are_read_as_the_fields_types(tmp_path: Path) -> None:
    loaded = read("--fast", "--bytes-max=7", "--limits-names", "x, y", "--ready-file", str(tmp_path))
    assert loaded.config.fast is True
    assert loaded.config.bytes_max == 7
    assert loaded.config.limits.names == ["x", "y"]
    assert loaded.config.ready_file == tmp_path
    assert read("--fast", "no", "--bytes-max=", "--limits-names=").config.model_dump(
        include={"fast", "bytes_max", "limits"}
    ) == {"fast": False, "bytes_max": None, "limits": {"calls_max": 10, "names": []}}


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("grpc_adr = 'x'", "unknown key grpc_adr in {file}, did you mean grpc_addr?"),
        ("[limits]\ncall_max = 1", "unknown key limits.call_max in {file}, did you mean limits.calls_max?"),
        ("[other]\nx = 1", "unknown key other in {file}"),
        ("limits = 3", "limits in {file} must be a section, [limits]"),
        ("log_level = 'loud'", "log_level in {file}: must be debug, info, warning or error, not 'loud'"),
        ("x = = 1", "{file} is not TOML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_key(tmp_path: Path, toml: str, said: str) -> None:
    file = tmp_path / "c.toml"
    with pytest.raises(ConfigError) as caught:
        read(file=(file, toml))
    assert str(caught.value).startswith(said.replace("{file}", str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "env", "said"),
    [
        (
            ["--limits-calls-max", "-1"],
            {},
            "limits.calls_max in --limits-calls-max: must be a whole number of",
        ),
        (["--http-addr", "9040"], {}, "http_addr in --http-addr: must be host:port or [IPv6 host]:port"),
        (["--nats-url", ""], {}, "nats_url in --nats-url: must be nats://host:port"),
        (["--nats-url", "nats://a:1,"], {}, "nats_url in --nats-url: must be nats://host:port"),
        (["--metadata", "etcd"], {}, "metadata in --metadata: must be nats or etcd://"),
        (["--metadata", "etcd://a"], {}, "metadata in --metadata: must be host:port"),
        (["--etcd-user", "danube"], {}, "etcd_user and a password need each other"),
        ([], {"DANUBE_TOPIC_OWNER_ETCD_PASSWORD": "swordfish"}, "etcd_user and a password need each other"),
        (["--etcd-cert-file", "/c"], {}, "etcd_cert_file and etcd_key_file need each other"),
        (["--etcd-cert-file", "/c", "--etcd-key-file", "/k"], {}, "etcd_cert_file needs etcd_ca_file"),
        (
            ["--etcd-user", "u", "--etcd-password-file", "/p"],
            {"DANUBE_TOPIC_OWNER_ETCD_PASSWORD": "swordfish"},
            "etcd_password and etcd_password_file exclude each other",
        ),
        (["--instance-id", "0"], {}, "instance_id in --instance-id: must be a positive 63-bit decimal"),
        (["--instance-id", str(1 << 63)], {}, "instance_id in --instance-id: must be a positive 63-bit"),
        (["--instance-id", ""], {}, "instance_id in --instance-id: must be a positive"),
        (
            [],
            {"DANUBE_TOPIC_OWNER_SHUTDOWN_DEADLINE_S": "soon"},
            "shutdown_deadline_s in $DANUBE_TOPIC_OWNER_SHUTDOWN_DEADLINE_S: must be a number from 0.01",
        ),
    ],
)
def test_a_wrong_value_is_one_line_that_names_field_and_source(
    argv: list[str], env: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*argv, env=env)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("fast = 3", "fast in {file}: must be true or false, not 3"),
        ("bytes_max = 1.5", "bytes_max in {file}: must be a whole number, not 1.5"),
        ("ready_file = 1", "ready_file in {file}: must be a path, not 1"),
        ("nats_url = 1", "nats_url in {file}: must be a text, not 1"),
        ("nats_replicas = [3]", "nats_replicas in {file}: must be a whole number from 1 to 5, not [3]"),
        ("limits.names = 'x'", "limits.names in {file}: must be a list, not 'x'"),
        ("limits.names = [1]", "limits.names in {file}: must be a text, not 1"),
        ("key = 1", "key in {file}: must be a text"),
        (f"nats_url = [{'1,' * 500}]", f"nats_url in {{file}}: must be a text, not [{'1, ' * 25}1..."),
    ],
)
def test_what_is_allowed_is_said_in_plain_words(tmp_path: Path, value: str, said: str) -> None:
    file = tmp_path / "c.toml"
    with pytest.raises(ConfigError) as caught:
        read(file=(file, value))
    assert str(caught.value) == said.replace("{file}", str(file))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DANUBE_TOPIC_OWNER_LOGLEVEL", "did you mean DANUBE_TOPIC_OWNER_LOG_LEVEL?"),
        ("DANUBE_LOG_LEVEL", "did you mean DANUBE_TOPIC_OWNER_LOG_LEVEL?"),
        ("DANUBE_TOPICOWNER_LIMITS_CALLS", "did you mean DANUBE_TOPIC_OWNER_LIMITS_CALLS_MAX?"),
        ("DANUBE_ADMINENDPOINT", "did you mean DANUBE_ADMIN_ENDPOINT?"),
        ("DANUBE_TOPIC_OWNER_PORT", "--help lists the variables"),
        ("DANUBE_X", "--help lists the variables"),
    ],
)
def test_an_unknown_variable_is_an_error_that_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(env={name: "", "DANUBE_STORAGE_X": "", "HOME": "/"})
    assert str(caught.value) == f"unknown environment variable {name}, {hint}"


def test_every_unknown_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"DANUBE_A,.*; .*DANUBE_B,"):
        read(env={"DANUBE_B": "", "DANUBE_A": ""})


def test_what_others_read_and_what_kubernetes_sets_is_left_alone() -> None:
    theirs = ("GATEWAY_X", "ADMIN_ENDPOINT", "STORAGE_PATH", "SLOTS_DIR", "STANDALONE_X", "BENCH_MB")
    service = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT", "PORT_1_TCP", "PORT_1_TCP_ADDR")
    names = [f"DANUBE_{one}" for one in theirs] + [f"DANUBE_TOPIC_OWNER_{one}" for one in service]
    assert set(read(env=dict.fromkeys(names, "1")).origins.values()) == {"default"}


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"cannot read /nowhere/c\.toml: No such file"):
        read("--config", "/nowhere/c.toml")


def test_help_lists_every_field_with_description_default_and_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        "--grpc-addr VALUE listen address, 100 % free text [default: 127.0.0.1:0] [DANUBE_TOPIC_OWNER_GRPC",
        "--limits-calls-max VALUE calls at one time [default: 10] [DANUBE_TOPIC_OWNER_LIMITS_CALLS_MAX]",
        "[default: random] [DANUBE_TOPIC_OWNER_INSTANCE_ID]",
    ):
        assert said in text
    secrets = ("key", "etcd_password", "nats_password")
    for name in read().origins:
        assert (f"--{name.replace('_', '-').replace('.', '-')} " in text) is (name not in secrets)
    assert "DANUBE_TOPIC_OWNER_NATS_PASSWORD" in text


def test_no_secret_is_a_flag_which_others_on_the_machine_would_see(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for flag in ("--key", "--etcd-password", "--nats-password"):
        with pytest.raises(SystemExit):
            read(flag, "swordfish")
        assert f"unrecognized arguments: {flag}" in capsys.readouterr().err


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--grpc-adr", "x")
    assert ended.value.code == 2
    assert "--grpc-adr" in capsys.readouterr().err


def test_shown_values_carry_their_origin_and_hide_secrets() -> None:
    variables = {"DANUBE_TOPIC_OWNER_KEY": "swordfish"}
    loaded = read("--config-show", "--nats-url", "nats://me:pass@h:4222", env=variables)
    assert loaded.show
    lines = loaded.lines()
    assert "nats_url = nats://me:***@h:4222  (flag)" in lines
    assert "key = **********  (environment)" in lines
    assert "limits.calls_max = 10  (default)" in lines
    assert "swordfish" not in "\n".join(lines)


def test_etcd_endpoints_are_split() -> None:
    assert read("--metadata", "etcd://a:1,b:2").config.etcd_endpoints == ["a:1", "b:2"]
    assert read().config.etcd_endpoints == []


def test_the_password_in_etcd_is_shown_nowhere() -> None:
    loaded = read("--etcd-user", "danube", env={"DANUBE_TOPIC_OWNER_ETCD_PASSWORD": "swordfish"})
    assert etcd_access(loaded.config).password == "swordfish"
    for text in ("\n".join(loaded.lines()), repr(loaded.config), repr(etcd_access(loaded.config))):
        assert "swordfish" not in text


def test_what_etcd_is_shown_comes_from_the_files_that_are_named(tmp_path: Path) -> None:
    argv = ["--etcd-user", "danube"]
    for flag, text in (("ca", "the ca"), ("cert", "the cert"), ("key", "the key"), ("password", "secret\n")):
        (tmp_path / flag).write_text(text)
        argv += [f"--etcd-{flag}-file", str(tmp_path / flag)]
    access = etcd_access(read(*argv).config)
    assert (access.user, access.password) == ("danube", "secret")
    assert access.tls == EtcdTls(b"the ca", b"the cert", b"the key")
    (tmp_path / "key").unlink()
    with pytest.raises(InvalidInput, match=r"cannot read .*/key: No such file"):
        etcd_access(read(*argv).config)


def test_etcd_is_shown_nothing_unless_told() -> None:
    access = etcd_access(read().config)
    assert (access.user, access.password, access.tls) == (None, None, None)


def test_the_password_in_nats_is_shown_nowhere_and_may_be_in_a_file(tmp_path: Path) -> None:
    loaded = read("--nats-user", "gateway", env={"DANUBE_TOPIC_OWNER_NATS_PASSWORD": "swordfish"})
    assert nats_access(loaded.config).options()["password"] == "swordfish"
    for text in ("\n".join(loaded.lines()), repr(loaded.config), repr(nats_access(loaded.config))):
        assert "swordfish" not in text
    file = tmp_path / "password"
    file.write_text("from a file\n")
    access = nats_access(read("--nats-user", "gateway", "--nats-password-file", str(file)).config)
    assert access.options() == {
        "user": "gateway",
        "password": "from a file",
        "inbox_prefix": "_INBOX.gateway",
    }
    file.unlink()
    with pytest.raises(InvalidInput, match="cannot read"):
        nats_access(read("--nats-user", "gateway", "--nats-password-file", str(file)).config)


def test_tls_to_nats_needs_usable_files(tmp_path: Path) -> None:
    assert nats_access(read().config).options() == {}
    junk = tmp_path / "junk"
    junk.write_text("junk")
    with pytest.raises(InvalidInput, match="TLS to NATS cannot be used"):
        nats_access(read("--nats-ca-file", str(junk)).config)
