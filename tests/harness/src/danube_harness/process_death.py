"""Children that do not outlive the test process."""

from __future__ import annotations

import ctypes
import os
import signal

# A fork while gRPC's threads run makes it restart them in the child, where `subprocess` closes their
# descriptors: about one child in a hundred aborts before its exec. Read when gRPC is first used.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; pass it as ``preexec_fn``.

    The libc handle is opened at import, not here: between fork and exec only plain calls are safe.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        os._exit(126)
