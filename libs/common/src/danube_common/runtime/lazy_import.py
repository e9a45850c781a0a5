"""Packages that are imported when the first of their names is used."""

from __future__ import annotations

import sys
from importlib._bootstrap import _ModuleLockManager  # type: ignore[attr-defined]
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _Unused(ModuleType):
    """A package of which nothing was used yet, or that is being run for its first use."""

    def __getattr__(self, name: str) -> Any:
        # An import of one of its modules asks for the path, and so imports the package first.
        spec = self.__spec__
        assert spec is not None  # noqa: S101 - `import_when_used` had it
        assert spec.loader is not None  # noqa: S101 - likewise
        # The lock that an import of the package takes: other threads wait, this one may come here again.
        with _ModuleLockManager(self.__name__):
            if "__path__" not in vars(self):
                self.__path__ = spec.submodule_search_locations or []
                try:
                    spec.loader.exec_module(self)
                except BaseException:
                    del self.__path__
                    raise
                self.__class__ = ModuleType  # type: ignore[assignment]  # back to what an import makes
        return ModuleType.__getattribute__(self, name)


def import_when_used(package: str) -> None:
    """Let ``import package`` cost nothing until one of its names is used.

    Nothing changes if it was imported already, or is not installed. Threads that use it at the same time wait
    as they do in an import. `importlib.util.LazyLoader` is of no use here: the second import of such a
    package loads it.
    """
    if package in sys.modules or (spec := find_spec(package)) is None:
        return
    module = module_from_spec(spec)
    del module.__path__
    module.__class__ = _Unused
    sys.modules[package] = module
