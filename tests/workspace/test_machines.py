"""The systemd units start programs that exist, with settings that they take."""

from __future__ import annotations

import importlib
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pytest

from danube_common.runtime.config import load
from danube_standalone.programs import SERVICE_MODULES

ROOT: Final = Path(__file__).resolve().parents[2]
UNITS: Final = ROOT / "deploy" / "systemd"
PROGRAMS: Final = ("gateway", "topic-owner", "storage", "admin-service")


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(strict=True, interpolation=None)
    parser.read(UNITS / name)
    return parser


@pytest.mark.parametrize("name", ["danube@.service", "danube-standalone.service"])
def test_a_unit_restarts_without_end_and_has_no_privilege(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["Restart"], unit(name)["Unit"]["StartLimitIntervalSec"]) == ("always", "0")
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["User"]) == (
        "yes",
        "strict",
        "danube",
    )
    assert service["CapabilityBoundingSet"] == ""


def test_the_units_start_programs_that_are_installed() -> None:
    program, *_ = unit("danube@.service")["Service"]["ExecStart"].split()
    projects = "".join(path.read_text() for path in ROOT.glob("*/*/pyproject.toml"))
    for one in (*(Path(program.replace("%i", name)).name for name in PROGRAMS), "danube-standalone"):
        assert re.search(rf'^"?{one}"? = "', projects, re.MULTILINE), one
    assert (
        Path(unit("danube-standalone.service")["Service"]["ExecStart"].split()[0]).name == "danube-standalone"
    )


def test_the_settings_that_the_page_shows_are_taken(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations" / "machines.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "gateway.toml"
    file.write_text(shown)
    config_type = importlib.import_module(f"{SERVICE_MODULES['gateway']}.service").GatewayConfig
    config = load("gateway", config_type, ["--config", str(file)], {}).config
    assert len(config.nats_urls) == len(config.etcd_endpoints) == config.nats_replicas == 3
    assert config.auth.enabled
