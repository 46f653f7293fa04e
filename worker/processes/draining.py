"""How a worker ends after a signal: it finishes what it has begun, but gives long work back.

The processes of one worker share one number, made before they are forked: the instant at which the
worker began to end.
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

from worker import logs

# A download may go on for so long. Then its lease is given back, and another worker continues.
LET_GO_S = 8.0
# After so long children that still run are killed; their leases run out. A supervisor waits 15 s.
END_S = 12.0
# A child that ends waits until its parent has read every answer, 30 s at most, and a parent that
# ends may read no more. Nothing needs the answers: the results of a child are in the ledger.
pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 3  # of 0.1 s
_began_at = mmap.mmap(-1, 8)


def begin() -> None:
    """To be called in the parent when the worker begins to end. Returns at once. Ends the process
    after END_S if it still runs.
    """
    struct.pack_into("d", _began_at, 0, time.monotonic())
    threading.Thread(target=_end_at_last, name="draining", daemon=True).start()


def since_s() -> float:
    """For how many seconds this worker has been ending; 0 when it is not. Holds in each of its
    processes.
    """
    began_at: float = struct.unpack_from("d", _began_at, 0)[0]
    return time.monotonic() - began_at if began_at else 0.0


def let_go() -> bool:
    """Whether long work should be given back now."""
    return since_s() > LET_GO_S


def _end_at_last() -> None:
    time.sleep(END_S)
    for child in active_children():
        os.kill(child.pid, signal.SIGKILL)
    logs.flush()
    os._exit(0)
