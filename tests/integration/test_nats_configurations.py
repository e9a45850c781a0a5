"""Every NATS server that this repository sets up syncs each write before it acknowledges it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import danube_standalone

DEPLOY = Path(__file__).parents[2] / "deploy"
READ_SUFFIXES = {".conf", ".yaml", ".yml", ".tpl", ".toml", ".json", ".sh", ".j2"}
FILE_BYTES_MAX = 1 << 20

# A block in a configuration file, or in a text that one is rendered from.
BLOCK = re.compile(
    r"^\s*\"?jetstream\"?\s*[:=]?\s*\{(?P<body>[^{}]*(?:\{\{[^{}]*\}\}[^{}]*)*)\}", re.MULTILINE
)
SWITCH = re.compile(
    r"(?<![\w-])(?:-js|--jetstream)(?![\w-])|^\s*jetstream\s*[:=]?\s*(?:true|enabled?)\b", re.MULTILINE
)
SYNCED = re.compile(r"^\s*\"?sync_interval\"?\s*[:=]?\s*\"?always\"?\s*,?\s*$", re.MULTILINE)


def without_comments(text: str) -> str:
    return "\n".join(re.sub(r"(^|\s)(#|//).*$", r"\1", line) for line in text.splitlines())


def unsynced(text: str) -> list[str]:
    """What in a configuration lets JetStream acknowledge before it has synced."""
    active = without_comments(text)
    found = [match["body"] for match in BLOCK.finditer(active) if not SYNCED.search(match["body"])]
    # Switched on without a block, it has no place to be told in.
    return found + [match[0] for match in SWITCH.finditer(active)]


def configurations() -> Iterator[tuple[Path, str]]:
    for file in sorted(DEPLOY.rglob("*")):
        if file.suffix in READ_SUFFIXES and file.is_file() and file.stat().st_size <= FILE_BYTES_MAX:
            yield file, file.read_text()


def test_no_configuration_of_a_deployment_lets_jetstream_acknowledge_before_it_has_synced() -> None:
    found = {
        str(file.relative_to(DEPLOY)): lines for file, text in configurations() if (lines := unsynced(text))
    }
    assert not found


def test_every_server_configuration_of_a_deployment_has_its_block() -> None:
    servers = [file for file, text in configurations() if file.suffix == ".conf" and "jetstream" in text]
    assert [file for file in servers if not BLOCK.search(without_comments(file.read_text()))] == []


def test_every_renderer_of_a_deployment_writes_it() -> None:
    renderers = {
        name: value
        for module in pkgutil.walk_packages(danube_standalone.__path__, "danube_standalone.")
        if not module.name.endswith("__main__")
        for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        if name.startswith("render_nats")
    }
    assert renderers
    for render in renderers.values():
        rendered = render(store_dir=Path("/data"))
        assert BLOCK.search(rendered)
        assert unsynced(rendered) == []


def test_what_does_not_sync_is_noticed() -> None:
    synced = 'jetstream {\n  store_dir: "/data"\n  sync_interval: always\n}\n'
    assert unsynced(synced) == []
    assert unsynced(synced.replace("{", ": {")) == []
    assert unsynced(synced.replace("always", "2m"))
    assert unsynced(synced.replace("sync_interval", "# sync_interval"))
    assert unsynced("jetstream { }")
    assert unsynced('command: ["-js", "-sd", "/data"]')
    assert unsynced("jetstream: enabled")
    assert unsynced("services:\n  nats:\n    image: nats\n") == []
