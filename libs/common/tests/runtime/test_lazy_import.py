from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import ModuleType

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


def test_threads_that_use_a_package_first_at_the_same_time_all_find_its_names(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    gate = ModuleType("danube_gate_of_a_test")
    vars(gate).update(begun=begun, go_on=go_on)
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    code = f"from {gate.__name__} import begun, go_on\nbegun.set()\ngo_on.wait(30)\nNAME = 'value'\n"
    (tmp_path / package / "__init__.py").write_text(code)
    import_when_used(package)
    module = __import__(package)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(lambda: module.NAME)
        assert begun.wait(30)
        others = [threads.submit(lambda: module.NAME), threads.submit(lambda: module.no_such_name)]
        assert not wait(others, timeout=0.2).done
        go_on.set()
        assert (first.result(30), others[0].result(30)) == ("value", "value")
        assert isinstance(others[1].exception(30), AttributeError)
    assert type(module) is ModuleType


def test_a_package_that_fails_is_run_again_at_the_next_use(package: str, tmp_path: Path) -> None:
    part = tmp_path / package / "part.py"
    part.write_text("raise BlockingIOError\n")
    import_when_used(package)
    module = __import__(package)
    with pytest.raises(BlockingIOError):
        _ = module.NAME
    part.write_text("LATER = 3  # now\n")
    assert (module.NAME, module.LATER) == ("value", 3)


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
