"""Packages that are imported when the first of their names is used."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _Unused(ModuleType):
    """A package of which nothing was used yet."""

    def __getattr__(self, name: str) -> Any:
        # An import of one of its modules asks for the path, and so imports the package first.
        spec = self.__spec__
        assert spec is not None  # noqa: S101 - `import_when_used` had it
        assert spec.loader is not None  # noqa: S101 - likewise
        self.__class__ = ModuleType  # type: ignore[assignment]  # back to what an import makes
        self.__path__ = spec.submodule_search_locations or []
        spec.loader.exec_module(self)
        return getattr(self, name)


def import_when_used(package: str) -> None:
    """Let ``import package`` cost nothing until one of its names is used.

    Nothing changes if it was imported already, or is not installed. The thread that uses it first must be the
    only one: others would find half of its names meanwhile. `importlib.util.LazyLoader` is of no use here:
    the second import of such a package loads it.
    """
    if package in sys.modules or (spec := find_spec(package)) is None:
        return
    module = module_from_spec(spec)
    del module.__path__
    module.__class__ = _Unused
    sys.modules[package] = module
