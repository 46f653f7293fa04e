"""Calls that come at a steady rate, each with a recording and what the rules owe it; the mix and
the moments are seeded.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from emulator.client import Control
from faults.checker import Owed
from faults.stage import KEEPS, LONGEST_S, SHORT, SHORT_S

OTHER, TRIGGER = "918065550101", "DialConnected"
# So late that a file cut to a tenth is 2 s short or more: what is less cannot be told from the
# provider's own inexactness.
_MOMENT_S = (2.5, 4.5)
_MIX = (("deadline", 0.6), ("trigger", 0.2), ("hangup", 0.2))


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How many recordings, and how many a second. `age_s`: the range of lengths of their files,
    evenly distributed on a logarithmic scale.
    """

    recordings: int
    rate: float
    mix: tuple[tuple[str, float], ...] = _MIX
    age_s: tuple[float, float] | None = None
    longest_s: float | None = None

    @property
    def lasts_s(self) -> float:
        return self.recordings / self.rate


@dataclass(slots=True)
class Played:
    """What was started and what it is owed. It grows while the load runs."""

    owed: dict[str, Owed] = field(default_factory=dict)
    failed: list[str] = field(
        default_factory=list
    )  # what the emulator did not take: a fault of the run itself


def play(load: Load, control: Control, seed: int, ended: threading.Event) -> Played:
    """Makes the calls. Returns after the last one's event, or when `ended` is set."""
    chance, played, acts = random.Random(seed), Played(), []
    for i in range(load.recordings):
        kind = chance.choices([k for k, _ in load.mix], [w for _, w in load.mix])[0]
        container, age_s = (
            chance.choice(["mp3", "mp3", "wav"]),
            round(math.exp(chance.uniform(*map(math.log, load.age_s))), 3) if load.age_s else 0.0,
        )
        if load.longest_s and i == load.recordings // 2:
            container, age_s = "wav", load.longest_s
        one = _One(control, played, kind, container, age_s)
        acts.append((i / load.rate, one.start))
        if kind != "deadline":
            acts.append((i / load.rate + chance.uniform(*_MOMENT_S), one.moment))
    began = time.monotonic()
    with ThreadPoolExecutor(16) as crew:
        for at, act in sorted(acts, key=lambda a: a[0]):
            if ended.wait(max(0.0, began + at - time.monotonic())):
                break
            crew.submit(_try, played, act)
    return played


def _try(played: Played, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - told in the run's own result
        played.failed.append(f"{type(error).__name__}: {error}"[:200])


class _One:
    """One call and its recording."""

    def __init__(
        self, control: Control, played: Played, kind: str, container: str, age_s: float
    ) -> None:
        self.control, self.played, self.kind, self.container, self.age_s = (
            control,
            played,
            kind,
            container,
            age_s,
        )
        self.started = threading.Event()
        self.call_uuid = ""

    def start(self) -> None:
        number = {"deadline": SHORT, "trigger": OTHER, "hangup": KEEPS}[self.kind]
        self.call_uuid = self.control.call(to_number=number)
        recording_id = self.control.record(
            self.call_uuid, container=self.container, age_s=self.age_s
        )
        self.played.owed[recording_id] = {
            "deadline": Owed(after_s=SHORT_S),
            "trigger": Owed(after_s=LONGEST_S, trigger=TRIGGER),
            "hangup": Owed(),
        }[self.kind]
        self.started.set()

    def moment(self) -> None:
        if not self.started.wait(5):
            raise TimeoutError("the call was not made in time")
        if self.kind == "trigger":
            self.control.event(self.call_uuid, TRIGGER)
        else:
            self.control.hangup(self.call_uuid)
