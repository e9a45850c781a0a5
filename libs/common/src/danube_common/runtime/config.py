"""A service's configuration: defaults < TOML file < environment < flags, each field with its origin.

A field ``a`` of section ``s`` is ``s.a`` in messages, ``[s] a = ...`` in the file,
``DANUBE_<SERVICE>_S_A`` in the environment and ``--s-a`` on the command line. Texts from the
environment and the command line are read as the field's type; lists are written ``a,b``. Unknown keys, flags
and variables are errors. Secrets are shown nowhere.
"""

from __future__ import annotations

import argparse
import difflib
import re
import secrets
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from danube_common.runtime.address import check_address, check_url
from danube_common.runtime.config_faults import explain, given
from danube_common.runtime.environment import unknown_variables, variable
from danube_common.runtime.section import Seconds, Section
from danube_common.runtime.tls_config import TlsConfig
from danube_common.runtime.tracing_config import TracingConfig
from danube_common.runtime.version import platform_version

INSTANCE_ID_MAX: Final = (1 << 63) - 1
_PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")


class ConfigError(Exception):
    """The configuration cannot be used. The text is one line that names the field or file."""


def _check_instance_id(text: str) -> str:
    if not (text.isascii() and text.isdigit() and text[0] != "0" and int(text) <= INSTANCE_ID_MAX):
        raise ValueError("must be a positive 63-bit decimal")
    return text


def _check_address(text: str) -> str:
    try:
        return check_address(text)
    except ValueError:
        raise ValueError("must be host:port or [IPv6 host]:port") from None


def _check_url(text: str) -> str:
    try:
        return check_url(text) if text else text
    except ValueError:
        raise ValueError("must be http://host:port") from None


def _check_nats_urls(text: str) -> str:
    if not all(url.strip() for url in text.split(",")):
        raise ValueError("must be nats://host:port[,nats://host:port]")
    return text


def _check_metadata(text: str) -> str:
    if text != "nats":
        scheme, found, endpoints = text.partition("://")
        if not found or scheme != "etcd":
            raise ValueError("must be nats or etcd://host:port[,host:port]")
        for endpoint in endpoints.split(","):
            _check_address(endpoint)
    return text


def new_instance_id() -> str:
    """Return a random positive 63-bit number as decimal text."""
    return str(secrets.randbelow(INSTANCE_ID_MAX) + 1)


Address = Annotated[str, AfterValidator(_check_address)]
"""``host:port``; port 0 takes a free one where it is listened on."""

Url = Annotated[str, AfterValidator(_check_url)]
"""``http://host:port``, or empty."""

InstanceId = Annotated[str, AfterValidator(_check_instance_id)]


class BundleLogConfig(Section):
    """Bounds of the log. All services of a cluster must agree on them."""

    file_bytes_max: int = Field(
        default=8 << 30,
        ge=1 << 20,
        description="bytes that the log of one bundle of the file family may keep",
    )
    memory_bytes_max: int = Field(
        default=128 << 20, ge=1 << 20, description="the same for a bundle of the memory family"
    )


class ServiceConfig(Section):
    """The fields that all services share; each service adds its own in a subclass."""

    instance_id: InstanceId = Field(
        default_factory=new_instance_id,
        description="identity of this instance, a positive 63-bit decimal; keep it across restarts",
        json_schema_extra={"default_text": "random"},
    )
    nats_url: Annotated[str, AfterValidator(_check_nats_urls)] = Field(
        default="nats://127.0.0.1:4222", description="NATS servers, separated by commas"
    )
    nats_user: str = Field(default="", description="user name in NATS, with a password")
    nats_password: SecretStr | None = Field(default=None, description="password in NATS; only as a variable")
    nats_password_file: Path | None = Field(
        default=None, description="file that holds the password in NATS, instead of nats-password"
    )
    nats_ca_file: Path | None = Field(
        default=None, description="certificates of the authorities that NATS's is checked with; turns TLS on"
    )
    nats_cert_file: Path | None = Field(
        default=None, description="our certificate for NATS, with nats-key-file"
    )
    nats_key_file: Path | None = Field(default=None, description="the key of nats-cert-file")
    metadata: Annotated[str, AfterValidator(_check_metadata)] = Field(
        default="nats", description="where metadata lives: nats, or etcd://host:port[,host:port]"
    )
    etcd_ca_file: Path | None = Field(
        default=None, description="certificates of the authorities that etcd's is checked with; turns TLS on"
    )
    etcd_cert_file: Path | None = Field(
        default=None, description="our certificate for etcd, with etcd-key-file"
    )
    etcd_key_file: Path | None = Field(default=None, description="the key of etcd-cert-file")
    etcd_user: str = Field(default="", description="user name in etcd, with a password")
    etcd_password: SecretStr | None = Field(default=None, description="password in etcd; only as a variable")
    etcd_password_file: Path | None = Field(
        default=None, description="file that holds the password in etcd, instead of etcd-password"
    )
    nats_replicas: int = Field(
        default=1, ge=1, le=5, description="servers of the NATS cluster that keep each log, journal and key"
    )
    bundle_log: BundleLogConfig = BundleLogConfig()
    journal_bytes_max: int = Field(
        default=4 << 30,
        ge=1 << 20,
        description="bound on the owners' journals together; a quarter of it comes on top for snapshots",
    )
    http_addr: Address = Field(default="127.0.0.1:0", description="listen address of health and metrics")
    http_tls: TlsConfig = TlsConfig()
    tracing: TracingConfig = TracingConfig()
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe event"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto is console on a terminal and json elsewhere"
    )
    shutdown_deadline_s: Seconds = Field(
        default=10.0, le=600, description="seconds a graceful shutdown may take before it is cut short"
    )
    ready_file: Path | None = Field(
        default=None, description="file to write a JSON object of addresses to, once the service is ready"
    )

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        for server in ("etcd", "nats"):
            user, password, password_file, ca_file, cert_file, key_file = (
                getattr(self, f"{server}_{name}")
                for name in ("user", "password", "password_file", "ca_file", "cert_file", "key_file")
            )
            if (cert_file is None) != (key_file is None):
                raise ValueError(f"{server}_cert_file and {server}_key_file need each other")
            if cert_file is not None and ca_file is None:
                raise ValueError(f"{server}_cert_file needs {server}_ca_file")
            if bool(user) != (password is not None or password_file is not None):
                raise ValueError(f"{server}_user and a password need each other")
            if password is not None and password_file is not None:
                raise ValueError(f"{server}_password and {server}_password_file exclude each other")
        return self

    @property
    def nats_urls(self) -> list[str]:
        """Each server's address."""
        return [url.strip() for url in self.nats_url.split(",")]

    @property
    def etcd_endpoints(self) -> list[str]:
        """``host:port`` of each etcd server; empty when metadata lives in NATS."""
        return [] if self.metadata == "nats" else self.metadata.partition("://")[2].split(",")


C = TypeVar("C", bound=ServiceConfig)
Origin = Literal["default", "file", "environment", "flag"]


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """The values in force, the origin of each by dotted name, and whether only to print them."""

    config: C
    origins: Mapping[str, Origin]
    show: bool

    def lines(self) -> list[str]:
        """``name = value  (origin)`` for every field; passwords in addresses and secrets are masked."""
        shown = []
        for field in _leaves(type(self.config)):
            value: Any = self.config
            for part in field.path:
                value = getattr(value, part)
            text = _PASSWORD.sub(r"\1:***@", str(value))
            shown.append(f"{field.name} = {text}  ({self.origins[field.name]})")
        return shown


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One field that holds a value, by its path through the sections."""

    path: tuple[str, ...]
    info: FieldInfo

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        return "--" + "-".join(self.path).replace("_", "-")

    @property
    def secret(self) -> bool:
        return SecretStr in (self.info.annotation, *get_args(self.info.annotation))

    def variable(self, service: str) -> str:
        return variable(service, *self.path)

    @property
    def default_text(self) -> str:
        extra = self.info.json_schema_extra
        if isinstance(extra, dict) and "default_text" in extra:
            return str(extra["default_text"])
        if self.info.is_required():
            return "none, must be set"
        default = self.info.get_default(call_default_factory=True)
        return "none" if default is None else str(default)

    def read(self, text: str) -> object:
        """Pydantic reads numbers and booleans from text by itself; lists it does not."""
        kind = self.info.annotation
        if get_origin(kind) in (list, tuple, set, frozenset):
            return [part.strip() for part in text.split(",")] if text.strip() else []
        if text == "" and type(None) in get_args(kind):
            return None
        return text


def load(
    service: str, config_type: type[C], argv: Sequence[str], environment: Mapping[str, str]
) -> Loaded[C]:
    """Read every field from its strongest source, and check the whole.

    ``--help`` prints and raises SystemExit, as argparse does; so do flags that do not exist.

    Raises:
        ConfigError: an unreadable file, an unknown key or variable, or a value that does not fit.
    """
    leaves = list(_leaves(config_type))
    flags = vars(_parser(service, leaves).parse_args(argv))
    unknown = unknown_variables(environment, service, {leaf.variable(service) for leaf in leaves})
    if unknown:
        raise ConfigError(unknown)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {leaf.name: "default" for leaf in leaves}
    sources: dict[str, str] = {}
    if flags["config"] is not None:
        in_file = _read_file(flags["config"], config_type)
        for leaf in leaves:
            if leaf.name in in_file:
                _set(values, leaf.path, in_file[leaf.name])
                origins[leaf.name], sources[leaf.name] = "file", f"in {flags['config']}"
    for leaf in leaves:
        name = leaf.variable(service)
        if name in environment:
            _set(values, leaf.path, leaf.read(environment[name]))
            origins[leaf.name], sources[leaf.name] = "environment", f"in ${name}"
        if flags.get(leaf.name) is not None:
            _set(values, leaf.path, leaf.read(flags[leaf.name]))
            origins[leaf.name], sources[leaf.name] = "flag", f"in {leaf.flag}"
    try:
        config = config_type.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error, leaves, sources)) from None
    return Loaded(config, origins, show=flags["config_show"])


def program_name(service: str) -> str:
    """Return the command that the user typed, if it is one of ours; else ``danube-<service>``."""
    typed = Path(sys.argv[0]).name
    return typed if typed.startswith("danube-") else f"danube-{service}"


def _leaves(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, (*above, name))
        else:
            yield _Leaf((*above, name), info)


def _parser(service: str, leaves: Sequence[_Leaf]) -> argparse.ArgumentParser:
    secret = ", ".join(leaf.variable(service) for leaf in leaves if leaf.secret)
    parser = argparse.ArgumentParser(
        prog=program_name(service),
        allow_abbrev=False,
        epilog="Each field may also stand in the file of --config or in the environment variable named with "
        f"it; secrets only there, not as flags, which others see: {secret}. Flags win over the environment, "
        "the environment over the file. Exit status: 0 stopped on request, 1 failed, 2 wrong configuration, "
        "3 shutdown cut short by its deadline, 128 + n ended by a second signal n.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {platform_version()}",
        help="print the version, and end",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file with any of the fields below")
    parser.add_argument(
        "--config-show", action="store_true", help="print every value with its origin, and end"
    )
    for leaf in leaves:
        if leaf.secret:
            continue  # others see the arguments of a process
        description = (leaf.info.description or "").replace("%", "%%")
        default = leaf.default_text.replace("%", "%%")
        parser.add_argument(
            leaf.flag,
            dest=leaf.name,
            metavar="VALUE",
            help=f"{description} [default: {default}] [{leaf.variable(service)}]",
            nargs="?" if leaf.info.annotation is bool else None,
            const="true" if leaf.info.annotation is bool else None,
        )
    return parser


def _read_file(path: Path, config_type: type[BaseModel]) -> dict[str, Any]:
    """The file's values by dotted name."""
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return dict(_flatten(document, config_type, path, ()))


def _flatten(
    table: Mapping[str, Any], model: type[BaseModel], path: Path, above: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = ".".join((*above, key))
        info = model.model_fields.get(key)
        if info is None:
            near = difflib.get_close_matches(key, model.model_fields, n=1)
            hint = f", did you mean {'.'.join((*above, near[0]))}?" if near else ""
            raise ConfigError(f"unknown key {name} in {path}{hint}")
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if not isinstance(value, dict):
                raise ConfigError(f"{name} in {path} must be a section, [{name}]")
            yield from _flatten(value, kind, path, (*above, key))
        else:
            yield name, value


def _set(values: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _one_line(error: ValidationError, leaves: Collection[_Leaf], sources: Mapping[str, str]) -> str:
    told = []
    for fault in error.errors(include_url=False):
        leaf = next((one for one in leaves if one.path == fault["loc"][: len(one.path)]), None)
        reason = explain(fault, leaf.info if leaf else None)
        if leaf is None:
            told.append(reason)
            continue
        source = f" {sources[leaf.name]}" if leaf.name in sources else ""
        unsaid = fault["type"] == "missing" or leaf.secret
        value = "" if unsaid else f", not {given(fault['input'])}"
        told.append(f"{leaf.name}{source}: {reason}{value}")
    return "; ".join(told)
