"""The process that fuzzes one decoder: `python -m tests.fuzz.fuzzer NAME SECONDS FOLDER`."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Final

import atheris

PACKAGES: Final = ["danube_common", "danube_gateway", "danube_client", "danube_topic_owner", "nats", "jwt"]
INPUT_BYTES_MAX: Final = 4096
INPUT_CPU_S_MAX: Final = 2.0
"""CPU time: a busy machine finds nothing that is not there."""
INPUT_S_MAX: Final = 120
"""For what never ends."""
MEMORY_MB_MAX: Final = 1024

with atheris.instrument_imports(include=PACKAGES):
    from tests.fuzz.corpus import kept
    from tests.fuzz.targets import open_target


def main(name: str, seconds: str, folder: Path) -> None:
    """Fuzz for so long, or until something is found; ends the process."""
    target = open_target(name)

    def one(data: bytes) -> None:
        began = time.process_time()
        with contextlib.suppress(*target.allowed):
            target.decode(data)
        if (took := time.process_time() - began) > INPUT_CPU_S_MAX:
            raise TimeoutError(f"{took:.1f} s of CPU time for {len(data)} bytes")

    for number, seed in enumerate([*target.seeds, *kept(name)]):
        (folder / f"seed-{number}").write_bytes(seed)
    options = [
        *(f"-artifact_prefix={folder}/", f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}"),
        *(f"-timeout={INPUT_S_MAX}", f"-rss_limit_mb={MEMORY_MB_MAX}", "-print_final_stats=1", "-reload=0"),
    ]
    atheris.Setup(["fuzzer", str(folder), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
