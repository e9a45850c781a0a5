from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from tests.official.rust_build import CannotBuild, clients


@pytest.fixture(scope="session")
def rust_programs() -> Path:
    """See `rust_build.clients`."""
    try:
        return clients()
    except CannotBuild as error:
        warnings.warn(pytest.PytestWarning(f"the Rust clients were not tried: {error}"), stacklevel=2)
        pytest.skip(str(error))
