"""The end of a process whose libraries have threads of their own."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


def end_at_once(main: Callable[[], object]) -> NoReturn:
    """Run `main` and end with its exit code, past the interpreter's own end.

    gloo's threads may still hold Python objects when a group has parted. One that lets go of them while the
    interpreter ends aborts the process: a training that went well would count as failed. What `main` opened
    it has to close; output is flushed.
    """
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - told as the interpreter would, which is passed by
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
