# ruff: noqa: INP001 - a script beside the contracts, not a module
"""Generates ``src/danube_proto/*_pb2.py`` and their types from the ``.proto`` files beside this script.

The output is committed; a test regenerates and compares. Run it after changing a contract::

    python proto/generate.py [--out DIRECTORY]
"""

from __future__ import annotations

import argparse
import importlib.resources
import sys
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

CONTRACTS = (
    "danube_api.proto",
    "danube_current.proto",
    "danube_admin.proto",
    "danube_platform.proto",
    "danube_schema.proto",
    "danube_stream.proto",
    "danube_operations.proto",
)
HERE = Path(__file__).resolve().parent
PACKAGE = "danube_proto"

# The official client registers messages of the same names in the process-wide pool, from a file of its
# own, and the pool refuses the second of the two. Each of our contracts stands alone, so each gets its own.
SHARED_POOL = "_descriptor_pool.Default().AddSerializedFile("
OWN_POOL = "_descriptor_pool.DescriptorPool().AddSerializedFile("


def generate(out: Path) -> list[Path]:
    """Writes the modules and their ``.pyi`` into ``out/danube_proto`` and returns their paths.

    Raises:
        RuntimeError: protoc failed, or its output no longer has the shape this script relies on.
    """
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    # The contracts are compiled as if they lay in the package, so that the modules know their full names.
    arguments = [
        "protoc",
        f"-I{PACKAGE}={HERE}",
        f"-I{well_known}",
        f"--python_out={out}",
        f"--pyi_out={out}",
    ]
    # One by one: two generations of a contract declare the same names.
    for contract in CONTRACTS:
        status = protoc.main([*arguments, f"{PACKAGE}/{contract}"])
        if status != 0:
            raise RuntimeError(f"protoc ended with status {status}")
    written = []
    for contract in CONTRACTS:
        module = out / PACKAGE / f"{contract.removesuffix('.proto')}_pb2.py"
        code = module.read_text(encoding="utf-8")
        if code.count(SHARED_POOL) != 1:
            raise RuntimeError(f"{module.name}: protoc registers descriptors in another way than expected")
        module.write_text(code.replace(SHARED_POOL, OWN_POOL), encoding="utf-8")
        types = module.with_suffix(".pyi")
        # protoc leaves the mapping that stands for a submessage bare; strict checking refuses it.
        typed = types.read_text(encoding="utf-8").replace(", _Mapping]", ", _Mapping[str, object]]")
        types.write_text(typed, encoding="utf-8")
        written += [module, types]
    return written


def main() -> None:
    """Generates the modules into the directory that the command line names, and prints their names."""
    parser = argparse.ArgumentParser(description="Generate the message modules from the contracts.")
    parser.add_argument("--out", type=Path, default=HERE / "src", help="directory that holds the package")
    for path in generate(parser.parse_args().out):
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
