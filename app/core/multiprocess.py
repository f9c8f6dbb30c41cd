"""Processes of one service under a parent of uvicorn's: a worker whose parent was killed must not keep the port."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel to end this worker, gracefully, when its parent dies. Does nothing in a process that is no worker.

    The kernel ties it to the thread that started the worker: uvicorn's main thread.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent.pid:  # it died before the line above could tie us to it
        os.kill(os.getpid(), signal.SIGTERM)
