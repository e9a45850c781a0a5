from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "rooms.py"


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rooms", module)
    spec.loader.exec_module(module)
    return module


def write(package: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)
    return package


def test_packages_and_the_imports_between_them_are_counted(rooms: ModuleType, tmp_path: Path) -> None:
    source = write(
        tmp_path / "shop",
        {
            "main.py": "from shop.sales import till\nimport shop.stock.shelf\n",
            "sales/till.py": "from shop.stock.shelf import take\nfrom shop.sales.cash import Coin\n",
            "sales/cash.py": "import json\n",
            "stock/shelf.py": "from shop.errors import Empty\n",
            "errors.py": "",
        },
    )
    member = rooms.read_member(source)
    assert member.figures() == {"rooms": 3, "arrows": 4, "top_modules": 2}
    assert set(member.arrows) == {
        ("shop", "shop.sales"),
        ("shop", "shop.stock"),
        ("shop.sales", "shop.stock"),
        ("shop.stock", "shop"),
    }


def test_a_figure_above_its_ceiling_is_told(rooms: ModuleType, tmp_path: Path) -> None:
    member = rooms.read_member(write(tmp_path / "shop", {"a/b.py": "", "c/d.py": "import shop.a.b\n"}))
    within = {"rooms": 2, "arrows": 1, "top_modules": 0}
    assert list(rooms.excesses([member], {"shop": within})) == []
    (problem,) = rooms.excesses([member], {"shop": {**within, "arrows": 0}})
    assert problem.startswith("shop: 1 arrows")
