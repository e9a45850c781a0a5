"""Builds our own programs in Go and Java, which make the calls of the official clients of these languages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.official.rust_build import BUILD_S_MAX, CannotBuild

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"
CURRENT, V0_2 = "current", "v0_2"
PACKAGES = {
    CURRENT: {"danube_current.proto": "official/danube", "danube_schema.proto": "official/schema"},
    V0_2: {"danube_api.proto": "official/danube"},
}
"""What the clients of each generation speak, and its Go packages."""
GO_OPTIONS = {CURRENT: (), V0_2: ("-tags", V0_2, "-modfile", "v0_2.mod")}
NOT_THE_MODULE = (
    "by our own program with grpc-go, in the order of the official Go client's calls: the module"
    " github.com/danube-messaging/danube-go could not be fetched"
)
NOT_THE_ARTIFACT = (
    "by our own program with grpc-java on Netty, in the order of the official Java client's calls: the"
    " artifact com.danubemessaging:danube-client could not be fetched"
)


def go_peer(generation: str) -> tuple[str, ...]:
    """Return the program that speaks a generation, by the grpc-go of its clients: by that it is told apart.

    The sources are built beside its messages.
    """
    go, source = _tool("go"), HERE / "go"
    target = source / "target" / generation
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.*"):
        shutil.copy2(file, target)
    _run(target, go, "build", "-o", f"{target}/", "tool")
    packages = PACKAGES[generation]
    names = ",".join(f"M{proto}={package}" for proto, package in packages.items())
    outputs = [
        word
        for kind in ("go", "go-grpc")
        for word in (
            f"--plugin=protoc-gen-{kind}={target / f'protoc-gen-{kind}'}",
            f"--{kind}_out={target}",
            f"--{kind}_opt=module=official,{names}",
        )
    ]
    _run(target, sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *outputs, *packages)
    _run(target, go, "build", *GO_OPTIONS[generation], "-o", str(target / "peer"), ".")
    return (str(target / "peer"),)


def java_peer() -> tuple[str, ...]:
    """Return the program that speaks by grpc-java."""
    maven, java, source = _tool("mvn"), _tool("java"), HERE / "java"
    _run(source, maven, "-q", "-B", "compile", "dependency:copy-dependencies")
    return java, "-cp", f"{source / 'target/classes'}:{source / 'target/lib'}/*", "peer.Main"


def _tool(name: str) -> str:
    if (found := shutil.which(name)) is None:
        raise CannotBuild(f"there is no {name} here")
    return found


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False
    )
    if done.returncode:
        raise CannotBuild(
            f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-2000:]}"
        )
