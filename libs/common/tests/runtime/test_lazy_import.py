from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from danube_common.runtime.lazy_import import import_when_used


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "danube_package_of_a_test"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("from .part import LATER\nNAME = 'value'\n")
    (folder / "part.py").write_text("LATER = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in (name, f"{name}.part"):
        monkeypatch.setitem(sys.modules, module, None)  # so that both are taken out again
        del sys.modules[module]
    return name


def is_run(package: str) -> bool:
    return f"{package}.part" in sys.modules


def test_a_package_is_run_when_its_first_name_is_used(package: str) -> None:
    import_when_used(package)
    module = __import__(package)
    assert __import__(package) is module
    assert not is_run(package)
    assert (module.NAME, module.LATER) == ("value", 3)
    assert is_run(package)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_a_package_is_run_when_one_of_its_modules_is_imported(package: str) -> None:
    import_when_used(package)
    assert __import__(f"{package}.part").NAME == "value"


def test_a_package_that_is_imported_already_stays(package: str) -> None:
    module = __import__(package)
    import_when_used(package)
    assert sys.modules[package] is module


def test_a_package_that_is_not_installed_still_is_not() -> None:
    import_when_used("danube_no_such_package")
    with pytest.raises(ModuleNotFoundError):
        __import__("danube_no_such_package")


def test_what_each_service_imports_runs_no_aiohttp() -> None:
    code = (
        "import sys\n"
        "import danube_common.runtime.ports, danube_common.runtime.service\n"
        "import danube_common.security.authenticator\n"
        "assert 'aiohttp' in sys.modules\n"
        "sys.exit('aiohttp.client' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
