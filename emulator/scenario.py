"""Scenario files: calls, events on them, and bad days, each at its time. A file is read completely
before anything is played.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from emulator import bad_days
from emulator.callbacks import CAUSES
from emulator.options import CallOptions, RecordingOptions
from emulator.signing import MODES
from emulator.state import ENCODINGS, METHODS, SOURCES, SPELLINGS, new_id
from emulator.switchboard import Switchboard

_CALL_KEYS = ({option.name for option in fields(CallOptions)} - {"from_number", "to_number"}) | {
    "name",
    "at",
    "from",
    "to",
    "hangup_at",
    "hangup_cause",
    "recordings",
    "events",
}
_RECORDING_KEYS = {option.name for option in fields(RecordingOptions)} | {
    "at",
    "stop_at",
    "stop_reason",
}
_VERBS: dict[str, tuple[str, ...]] = {
    "announce": (),
    "dial": ("to_number", "cause", "redirect", "loser", "loser_cause"),
    "answer": (),
    "dial_end": ("cause", "redirect"),
    "join_room": ("room",),
    "leave_room": (),
    "transfer": ("url",),
}
_TYPES: dict[str, tuple[type, ...]] = {
    "trunk": (bool,),
    "announce": (bool,),
    "ringing": (bool,),
    "redirect": (bool,),
    "channels": (int,),
    "fields": (dict,),
    "urls": (dict,),
    "recordings": (list,),
    "events": (list,),
    **dict.fromkeys(
        ("at", "hangup_at", "stop_at", "ring_s", "max_length_s", "age_s", "until"), (int, float)
    ),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "direction": ("inbound", "outbound"),
    "hangup_cause": tuple(CAUSES),
    "cause": tuple(CAUSES),
    "container": ("mp3", "wav"),
    "source": SOURCES,
    "spelling": SPELLINGS,
    "encoding": ENCODINGS,
    "callback_method": METHODS,
    "signature": MODES,
}
_NEEDED = {"dial": "to_number", "join_room": "room", "transfer": "url"}


class ScenarioError(ValueError):
    """Every mistake in the file, one a line; each line begins with the key."""


@dataclass(frozen=True, slots=True)
class Step:
    at: float
    act: Callable[[Switchboard], object]


@dataclass(slots=True)
class Plot:
    steps: list[Step] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)  # name → call_uuid

    @property
    def lasts_s(self) -> float:
        return max((step.at for step in self.steps), default=0)


def play(plot: Plot, provider: Switchboard) -> None:
    """Starts the scenario and returns at once."""
    for step in sorted(plot.steps, key=lambda s: s.at):
        provider.later(step.at, partial(step.act, provider))


def read(text: str, accounts: set[str]) -> Plot:
    """Raises ScenarioError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"not TOML: {error}") from None
    reader = _Reader(accounts)
    reader.file(tables)
    if reader.wrong:
        raise ScenarioError("\n".join(reader.wrong))
    return reader.plot


class _Reader:
    """Collects the steps, and the mistakes in `wrong`."""

    def __init__(self, accounts: set[str]) -> None:
        self.plot, self.wrong, self._accounts = Plot(), list[str](), accounts

    def file(self, tables: dict[str, Any]) -> None:
        self._keys("", tables, {"calls", "faults"})
        for i, call in enumerate(self._tables("calls", tables.get("calls", []))):
            self._call(f"calls[{i}]", call)
        for i, fault in enumerate(self._tables("faults", tables.get("faults", []))):
            self._fault(f"faults[{i}]", fault)

    def _call(self, where: str, given: dict[str, Any]) -> None:
        if not self._keys(where, given, _CALL_KEYS):
            return
        call_uuid, begin = given.get("call_uuid") or new_id(), given.get("at", 0)
        if (name := given.get("name")) is not None:
            if name in self.plot.calls:
                self.wrong.append(f"{where}.name: {name!r} is taken")
            self.plot.calls[name] = call_uuid
        if given.get("account", next(iter(self._accounts))) not in self._accounts:
            self.wrong.append(
                f"{where}.account: {given['account']!r} is none of "
                f"{', '.join(sorted(self._accounts))}"
            )
        how = {
            {"from": "from_number", "to": "to_number"}.get(key, key): value
            for key, value in given.items()
            if key
            not in {"call_uuid", "name", "at", "hangup_at", "hangup_cause", "recordings", "events"}
        }
        self._step(begin, lambda p: p.call(call_uuid=call_uuid, **how))
        end = given.get("hangup_at", float("inf"))
        for i, recording in enumerate(
            self._tables(f"{where}.recordings", given.get("recordings", []))
        ):
            self._recording(f"{where}.recordings[{i}]", recording, call_uuid, begin, end)
        for i, event in enumerate(self._tables(f"{where}.events", given.get("events", []))):
            self._event(f"{where}.events[{i}]", event, call_uuid, begin, end)
        if "hangup_at" in given:
            self._step(
                begin + end,
                lambda p: p.hangup(call_uuid, cause=given.get("hangup_cause", "NORMAL_CLEARING")),
            )

    def _recording(
        self, where: str, given: dict[str, Any], call_uuid: str, begin: float, end: float
    ) -> None:
        if not self._keys(where, given, _RECORDING_KEYS) or not self._before(where, given, end):
            return
        rid, at = given.get("recording_id") or new_id(), given.get("at", 0)
        how = {
            key: value
            for key, value in given.items()
            if key not in {"at", "stop_at", "stop_reason", "recording_id"}
        }
        self._step(begin + at, lambda p: p.record(call_uuid, recording_id=rid, **how))
        if "stop_at" in given:
            if given["stop_at"] < at:
                self.wrong.append(
                    f"{where}.stop_at: {given['stop_at']} is before the recording's `at`, {at}"
                )
            # A trunk's recording bears the id of its call.
            ended = call_uuid if given.get("source") == "trunk" else rid
            self._step(
                begin + given["stop_at"],
                lambda p: p.end(ended, given.get("stop_reason", "FinishedOnKey")),
            )

    def _event(
        self, where: str, given: dict[str, Any], call_uuid: str, begin: float, end: float
    ) -> None:
        verb = given.get("do")
        allowed = {"at", "do", *_VERBS[verb]} if verb in _VERBS else {"at", "event", "fields", "do"}
        if not self._keys(where, given, allowed) or not self._before(where, given, end):
            return
        at = begin + given.get("at", 0)
        if verb is None and "event" in given:
            self._step(at, lambda p: p.event(call_uuid, given["event"], **given.get("fields", {})))
        elif verb not in _VERBS:
            self.wrong.append(f"{where}: needs `event`, or `do` with one of {', '.join(_VERBS)}")
        elif _NEEDED.get(verb, "do") not in given:
            self.wrong.append(f"{where}.{_NEEDED[verb]}: is missing")
        else:
            self._step(
                at,
                lambda p: getattr(p, verb)(
                    call_uuid, **{key: given[key] for key in _VERBS[verb] if key in given}
                ),
            )

    def _fault(self, where: str, given: dict[str, Any]) -> None:
        name = given.get("name")
        if name not in bad_days.BAD_DAYS:
            self.wrong.append(f"{where}.name: {name!r} is no bad day")
            return
        params = {
            key: value for key, value in given.items() if key not in {"name", "at", "until", "call"}
        }
        if "call" in given:
            if given["call"] not in self.plot.calls:
                self.wrong.append(f"{where}.call: no call is named {given['call']!r}")
            params["call_uuid"] = self.plot.calls.get(given["call"])
        try:
            bad_days.check(name, params)
        except ValueError as error:
            self.wrong.append(f"{where}: {error}")
        if not self._values(where, given):
            return
        self._step(given.get("at", 0), lambda p: p.faults.switch_on(name, **params))
        if "until" in given:
            self._step(given["until"], lambda p: p.faults.switch_off(name))

    # One value
    # ----------------------------------------------------------------------------------------------

    def _step(self, at: float, act: Callable[[Switchboard], object]) -> None:
        self.plot.steps.append(Step(float(at), act))

    def _tables(self, where: str, value: Any) -> list[dict[str, Any]]:
        if isinstance(value, list) and all(isinstance(table, dict) for table in value):
            return value
        self.wrong.append(f"{where}: is not a list of tables")
        return []

    def _keys(self, where: str, given: dict[str, Any], allowed: set[str]) -> bool:
        unknown = given.keys() - allowed
        self.wrong += [
            f"{f'{where}.' if where else ''}{key}: is not known here" for key in sorted(unknown)
        ]
        return self._values(where, given) and not unknown

    def _values(self, where: str, given: dict[str, Any]) -> bool:
        """Whether each value has its key's type and is one of the allowed ones. Adds mistakes to
        `wrong`.
        """
        mistakes_before = len(self.wrong)
        for key, value in given.items():
            place, wanted = (
                f"{where}.{key}",
                _TYPES.get(key, (str,) if key in _CALL_KEYS | _RECORDING_KEYS else (object,)),
            )
            if not isinstance(value, wanted) or (
                isinstance(value, bool) and bool not in wanted and object not in wanted
            ):
                self.wrong.append(
                    f"{place}: {value!r} is not {' or '.join(kind.__name__ for kind in wanted)}"
                )
            elif isinstance(value, int | float) and value < 0:
                self.wrong.append(f"{place}: {value} is below 0")
            elif key in _CHOICES and value not in _CHOICES[key]:
                self.wrong.append(f"{place}: {value!r} is none of {', '.join(_CHOICES[key])}")
        return mistakes_before == len(self.wrong)

    def _before(self, where: str, given: dict[str, Any], end: float) -> bool:
        if given.get("at", 0) < end:
            return True
        self.wrong.append(f"{where}.at: {given['at']} is not before the call's hangup_at, {end}")
        return False
