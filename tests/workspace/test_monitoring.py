"""Dashboards and alerts ask for metrics that the platform has, and alerts fire when they must."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy" / "prometheus"
DASHBOARDS: Final = ROOT / "deploy" / "grafana" / "dashboards"
SOURCES: Final = ("services", "libs", "tools")
NAME: Final = re.compile(r"\b(?:danube[:_]|etcd_)[a-z0-9_:]+")
BUILT_IN: Final = {"danube_instance"}
"""What every process has, with a name that is put together."""


def _name(kind: str, call: ast.Call) -> Iterator[str]:
    name = f"danube_{ast.literal_eval(call.args[0])}"
    bare = any(one.arg == "suffix" and not ast.literal_eval(one.value) for one in call.keywords)
    if kind == "histogram":
        yield f"{name}_bucket"
    else:
        yield f"{name}_total" if kind.endswith("counter") and not bare else name


def exposed() -> set[str]:
    """The names of all metrics, as Prometheus sees them, read from the calls that make them."""
    found = set(BUILT_IN)
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("src/**/*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                    continue
                first, kind = node.args[0], node.func.attr
                if re.fullmatch(r"(plain_)?(counter|gauge)|histogram", kind) and isinstance(
                    first, ast.Constant
                ):
                    found.update(_name(kind, node))
    return found


def recorded() -> set[str]:
    """The names that the rules give to what they compute."""
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def expressions() -> Iterator[str]:
    """All queries of dashboards and rules."""
    for group in yaml.safe_load((RULES / "rules.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for path in DASHBOARDS.glob("*.json"):
        page: dict[str, Any] = json.loads(path.read_text())
        yield from (target["expr"] for panel in page["panels"] for target in panel["targets"])
        yield from (variable["query"]["query"] for variable in page["templating"]["list"])


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prometheus' own checker, from Debian's package if it is not installed."""
    found = shutil.which("promtool")
    if found is not None:
        return Path(found)
    folder = tmp_path_factory.mktemp("prometheus")
    try:
        for command in (
            ["apt-get", "download", "prometheus"],
            ["sh", "-c", "dpkg-deb -x prometheus_*.deb ."],
        ):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=50)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"promtool is not installed and Debian's prometheus cannot be fetched: {error}")
    return folder / "usr" / "bin" / "promtool"


@pytest.fixture
def dashboards(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "tools" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dashboards", module)
    spec.loader.exec_module(module)
    return module


def test_dashboards_and_rules_ask_for_metrics_that_exist() -> None:
    known = exposed() | recorded()
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(asked) > 40
    assert {name for name in asked if not name.startswith("etcd_")} - known == set()


def alerts() -> list[dict[str, Any]]:
    """The alerts of the rules."""
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_every_alert_is_tested_where_it_fires_and_where_it_is_silent() -> None:
    healthy, *others = yaml.safe_load((RULES / "rules_test.yml").read_text())["tests"]
    silent = {re.split(r"[{]", one["series"])[0] for one in healthy["input_series"]}
    fired = set(re.findall(r"Danube[A-Za-z]+", yaml.safe_dump([one["promql_expr_test"] for one in others])))
    assert fired == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        # What it looks at is there on the healthy platform, so that its silence says something.
        names = set(NAME.findall(alert["expr"])) - recorded()
        assert names & silent or "danube:" in alert["expr"] or "up{" in alert["expr"], alert["alert"]


def test_the_manual_names_metrics_that_exist() -> None:
    known = {re.sub(r"_(total|bucket)$", "", name) for name in exposed()}
    text = (ROOT / "docs" / "operations" / "monitor.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    metrics = [row[1] for row in rows if len(row) == 3 and not row[0].startswith("`")]
    told = {f"danube_{name}" for cell in metrics for name in re.findall(r"`([a-z]\w+)`", cell)}
    here = " ".join(cell for row in rows for cell in (row[1:] if len(row) == 2 else row))
    told |= set(re.findall(r"\bdanube_\w+", here))
    found = {re.sub(r"_total$", "", re.sub(r"^(danube_)+", "danube_", name)) for name in told}
    assert len(found) > 60
    assert found - known == set()


def test_the_dashboards_are_those_of_their_tables(dashboards: ModuleType) -> None:
    written = {path.stem: path.read_text() for path in DASHBOARDS.glob("*.json")}
    assert written == {one.name: dashboards.rendered(one) for one in dashboards.DASHBOARDS}


def test_every_alert_says_what_to_do_and_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "operations" / "monitor.md").read_text()
    for alert in alerts():
        assert alert["annotations"].keys() == {"summary", "action"}, alert["alert"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, alert["alert"]
        assert f"`{alert['alert']}`" in manual


@pytest.mark.timeout(150)
def test_each_alert_fires_when_it_must_and_only_then(promtool: Path) -> None:
    tested = subprocess.run(
        [promtool, "test", "rules", "rules_test.yml"],
        cwd=RULES,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
