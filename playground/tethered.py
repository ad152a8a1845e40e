"""``python -m playground.tethered PARENT MODULE``: runs a module that ends when its parent process does.

The child asks for it itself. Asked for between fork and exec, it is code in a copy of a process whose threads
are gone, and gRPC's there have died of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies, kill -9 included (Linux only).

    Parameters
    ----------
    parent
        Its process id. When it is gone already, this process ends here.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(f"the process that started this one ({parent}) is gone")


if __name__ == "__main__":
    _, started_by, module, *arguments = sys.argv
    die_with(int(started_by))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
