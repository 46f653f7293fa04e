"""A network cable from this machine into a network namespace, carried by hand: frame by frame
between two TAP devices.

So it can be cut in either direction, delay and lose without any module of the kernel for that; and
as a TAP device lives no longer than whoever holds it open, nothing is left behind, however this
process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Self

TUN = "/dev/net/tun"
_SET_INTERFACE, _TAP, _NO_HEADER = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
_LONGEST_FRAME, _AT_ONCE = 65536, 64
_LOOK_S = 0.1


@dataclass(slots=True)
class Way:
    """How one direction treats its frames."""

    cut: bool = False
    loss: float = 0.0  # the share of frames that is lost
    delay_s: float = 0.0


class Cable:
    """A cable. When its context is entered, our end is up and has its address. The other end is
    where it was plugged in last.
    """

    def __init__(self, name: str, ours: str, theirs: str, *, seed: int) -> None:
        """`name`: the device's name, at most 14 bytes. `ours` and `theirs`: two addresses of one
        /30 network.
        """
        self.name, self.ours, self.theirs = name, ours, theirs
        self.there, self.back = Way(), Way()  # to the machine, and from it
        self._chance, self._lock, self._closing = (
            random.Random(seed),
            threading.Lock(),
            threading.Event(),
        )
        self._selector = selectors.DefaultSelector()
        self._ends: dict[str, int] = {}  # `ours` and `theirs` → file descriptor

    def __enter__(self) -> Self:
        self._hold("ours", self.name)
        ip("address", "add", f"{self.ours}/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        self._thread = threading.Thread(target=self._carry, name=f"cable {self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for end in list(self._ends):
            self._let_go(end)
        self._selector.close()

    def plug_in(self, pid: int) -> None:
        """Makes the other end `eth0` of this process's network namespace."""
        device = f"{self.name}m"
        self._hold("theirs", device)
        ip("link", "set", device, "netns", str(pid))
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", device, "name", "eth0"),
            ("address", "add", f"{self.theirs}/30", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            ip(*words, inside=pid)

    def unplug(self) -> None:
        self._let_go("theirs")

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Stops all frames, in one direction or both. Neither side is notified."""
        self.there.cut, self.back.cut = there, back

    def weak(self, *, delay_s: float, loss: float) -> None:
        """Delays frames by `delay_s` and loses the share `loss` of them, in both directions."""
        for way in (self.there, self.back):
            way.delay_s, way.loss = delay_s, loss

    def mend(self) -> None:
        """Restores the cable: no delay, no loss."""
        self.cut(there=False, back=False)
        self.weak(delay_s=0, loss=0)

    def _hold(self, end: str, device: str) -> None:
        number = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(
                number, _SET_INTERFACE, struct.pack("16sH", device.encode(), _TAP | _NO_HEADER)
            )
        except OSError:
            os.close(number)
            raise
        with self._lock:
            self._ends[end] = number
            self._selector.register(number, selectors.EVENT_READ, end)

    def _let_go(self, end: str) -> None:
        with self._lock:
            if (number := self._ends.pop(end, None)) is not None:
                self._selector.unregister(number)
                os.close(number)

    def _carry(self) -> None:
        late: list[tuple[float, int, str, bytes]] = []  # frames under way: when they arrive, where
        order = itertools.count()
        while not self._closing.is_set():
            wait = min(_LOOK_S, max(0.0, late[0][0] - time.monotonic())) if late else _LOOK_S
            for key, _ in self._selector.select(wait):
                for frame in self._frames(key.data, key.fd):
                    way, other = (
                        (self.there, "theirs") if key.data == "ours" else (self.back, "ours")
                    )
                    if not way.cut and self._chance.random() >= way.loss:
                        heapq.heappush(
                            late, (time.monotonic() + way.delay_s, next(order), other, frame)
                        )
            while late and late[0][0] <= time.monotonic():
                _, _, other, frame = heapq.heappop(late)
                self._put(other, frame)

    def _frames(self, end: str, number: int) -> list[bytes]:
        found = list[bytes]()
        with (
            self._lock,
            contextlib.suppress(OSError),
        ):  # no more at the moment; or its namespace is gone
            while self._ends.get(end) == number and len(found) < _AT_ONCE:
                found.append(os.read(number, _LONGEST_FRAME))
        return found

    def _put(self, end: str, frame: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):  # a device that is not up takes none
            if end in self._ends:
                os.write(self._ends[end], frame)


def ip(*words: str, inside: int | None = None) -> None:
    """The command `ip`, in the network namespace of the process `inside`. Raises RuntimeError with
    what it says.
    """
    enter = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
    done = subprocess.run([*enter, "ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
