from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from tests.official.rust_build import CannotBuild, build


@pytest.fixture(scope="session")
def rust_programs() -> Path:
    """The folder of the programs of the Rust clients: `current` is 0.15.1, `v0_2` is 0.2.0."""
    try:
        return build(Path(__file__).with_name("rust"), profile="debug")
    except CannotBuild as error:
        warnings.warn(pytest.PytestWarning(f"the Rust clients were not tried: {error}"), stacklevel=2)
        pytest.skip(str(error))
