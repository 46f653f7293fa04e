"""A worker that was told to end: what it has begun is finished, what takes too long is given back,
and then it goes.

The processes of one worker share one number, made before they are forked: the instant at which it
was told to.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import threading
import time

from billiard import pool
from billiard.process import active_children

# so long a download may go on; then its lease is given back, and another worker begins anew
LET_GO_S = 8.0
END_S = 12.0  # whatever still hangs is killed; its lease runs out. A supervisor waits 15 s
# A child that ends waits until its parent has read every answer, 30 s at most, and a parent that
# ends may read no more. Nobody needs the answers: what a child did is in the ledger.
pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 3  # of 0.1 s
_told_at = mmap.mmap(-1, 8)


def begin() -> None:
    """In the parent, once it was told to end. Returns at once; the process is gone after END_S at
    the latest.
    """
    struct.pack_into("d", _told_at, 0, time.monotonic())
    threading.Thread(target=_end_at_last, name="draining", daemon=True).start()


def since_s() -> float:
    """For how many seconds this worker has been ending; 0 when it is not. Any of its processes may
    ask.
    """
    told_at: float = struct.unpack_from("d", _told_at, 0)[0]
    return time.monotonic() - told_at if told_at else 0.0


def let_go() -> bool:
    """Whether long work should be given back now."""
    return since_s() > LET_GO_S


def _end_at_last() -> None:
    time.sleep(END_S)
    for child in active_children():
        os.kill(child.pid, signal.SIGKILL)
    os._exit(0)
