"""Command-line tools as programs: how they start, and the version they tell."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

TOOLS: Final = {"danube-admin": "danube_admin_cli", "danube-cli": "danube_cli", "danube-perf": "danube_perf"}
"""The package of each tool."""
INTERRUPTED: Final = 130


def run() -> None:
    """Run the tool whose name the process has; exits with a sentence if the extra `cli` is not installed.

    An interrupt while the tool is loaded ends it without a word, as one while it runs does.
    """
    name = Path(sys.argv[0]).name
    try:
        main = import_module(f"{TOOLS[name]}.__main__").main
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("danube_"):
            raise
        sys.exit(f"{name} needs {error.name}: pip install 'danubepy[cli]'")
    main()


def tool_version(tool: str) -> str:
    """Return the version of the member of the workspace that a tool is, or of `danubepy`, its wheel."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to import

    try:
        return version(TOOLS[tool].replace("danube_", "danubepy-").replace("_", "-"))
    except PackageNotFoundError:
        return version("danubepy")
