"""What the processes tell one another: who is alive, which settings are in force, what is degraded.

{endtape}:seen         hash    ROLE|PROCESS → the last heartbeat (ms) and the slots
{endtape}:generation   int     grows with each reload
{endtape}:reload:N     hash    process → its answer to reload N
{endtape}:settings     string  the settings in force as JSON, without secrets
{endtape}:rules_file   string  name of the rules file that was read last; missing if there was none
{endtape}:schema       int     the version of the data
{endtape}:first_start  int     our first start ever (ms)
{endtape}:degraded     hash    what does not work → when it last failed (ms) and why
{endtape}:probe        string  written to find out whether Redis takes writes
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from worker.errors import SettingsError
from worker.ledger.codec import SCHEMA, from_ms, to_ms
from worker.ledger.store import Store, as_dict

ROLES = ("stops", "fetches", "keep", "clock")  # each must have a process with a heartbeat
SEEN_WITHIN = timedelta(seconds=15)  # a process without a heartbeat for so long has ended
_DEGRADED_FOR = timedelta(minutes=2)  # more than lies between two trials
_ANSWERS_KEPT_S = 3600
_SLOTS_KNOWN_S = 5.0
_HEARTBEATS_KEPT_MS = 3_600_000


class Presence(Store):
    """Heartbeats, reloads, and what does not work."""

    def __init__(self, *how: Any, **more: Any) -> None:
        super().__init__(*how, **more)
        self._slots: dict[str, tuple[float, int]] = {}  # of each queue, and when that was read

    # The data and its age
    # -----------------------------------------------------------------------------------

    def prepare(self) -> datetime:
        """Checks the version of the data, and returns the instant of our first start ever.

        Raises SettingsError if a newer release wrote the data.
        """
        self.command("SET", self.key("schema"), SCHEMA, "NX")
        schema = int(self.command("GET", self.key("schema")))
        if schema > SCHEMA + 1:
            raise SettingsError(
                [
                    f"REDIS_URL: its data has schema {schema}; this release reads up to "
                    f"{SCHEMA + 1}; upgrade Endtape"
                ]
            )
        self.command("SET", self.key("first_start"), to_ms(self.now()), "NX")
        return from_ms(int(self.command("GET", self.key("first_start"))))

    def first_start(self) -> datetime | None:
        """The instant of our first start. None if somebody erased the ledger since `prepare`."""
        stored = self.command("GET", self.key("first_start"))
        return from_ms(int(stored)) if stored else None

    def set_first_start(self, instant: datetime) -> None:
        """Corrects our first start, after a process or the archive showed an earlier one."""
        self.prepare()
        self.command("SET", self.key("first_start"), to_ms(instant))

    def check_write(self) -> None:
        """Raises LedgerUnavailable if Redis takes no writes."""
        self.command("SET", self.key("probe"), 1, "EX", 60)

    # Heartbeats
    # --------------------------------------------------------------------------------------------

    def seen(self, role: str, name: str, slots: int = 0) -> None:
        """A process's heartbeat. `slots`: how many pieces of work it can do at once."""
        self.command("HSET", self.key("seen"), f"{role}|{name}", f"{to_ms(self.now())}|{slots}")

    def gone(self, role: str, name: str) -> None:
        """Deletes a process's heartbeat, because the process ends."""
        self.command("HDEL", self.key("seen"), f"{role}|{name}")

    def alive(self, within: timedelta) -> dict[str, list[int]]:
        """The roles with a heartbeat within this time, and the slots of each process.

        Deletes heartbeats that are older by more than an hour.
        """
        since = to_ms(self.now() - within)
        alive: dict[str, list[int]] = {}
        for field, value in as_dict(self.command("HGETALL", self.key("seen"))).items():
            at, slots = (int(number) for number in value.split("|"))
            if at >= since:
                alive.setdefault(field.split("|")[0], []).append(slots)
            elif at < since - _HEARTBEATS_KEPT_MS:
                self.command("HDEL", self.key("seen"), field)
        return alive

    def slots(self, queue: str) -> int:
        """How many tasks of a queue can be worked on at once, or could some seconds ago."""
        at, slots = self._slots.get(queue, (-_SLOTS_KNOWN_S, 0))
        if time.monotonic() - at > _SLOTS_KNOWN_S:
            slots = sum(self.alive(SEEN_WITHIN).get(f"slots.{queue}", []))
            self._slots[queue] = time.monotonic(), slots
        return slots

    def machines(self, within: timedelta) -> set[str]:
        """The host names of the processes with a heartbeat within this time."""
        since = to_ms(self.now() - within)
        heartbeats = as_dict(self.command("HGETALL", self.key("seen")))
        return {
            field.partition("|")[2].rpartition(":")[0].rpartition(" ")[2]  # WORD HOST:PID
            for field, value in heartbeats.items()
            if int(value.partition("|")[0]) >= since and ":" in field
        }

    def last_seen(self, role: str) -> dict[str, datetime]:
        """The last heartbeat of each process of a role. A killed process stays for an hour."""
        heartbeats = as_dict(self.command("HGETALL", self.key("seen")))
        return {
            field.partition("|")[2]: from_ms(int(value.partition("|")[0]))
            for field, value in heartbeats.items()
            if field.startswith(f"{role}|")
        }

    # Reloads
    # --------------------------------------------------------------------------------------------

    def generation(self) -> int:
        """How many reloads were ordered so far."""
        return int(self.command("GET", self.key("generation")) or 0)

    def next_generation(self) -> int:
        """Orders a reload: every process compares its generation with this one."""
        return int(self.command("INCR", self.key("generation")))

    def answer(self, generation: int, process: str, text: str) -> None:
        """Stores a process's answer to a reload. Generation 0 is the start."""
        with self.pipeline() as pipe:
            pipe.hset(self.key("reload", str(generation)), process, text)
            pipe.expire(self.key("reload", str(generation)), _ANSWERS_KEPT_S)

    def answers(self, generation: int) -> dict[str, str]:
        """The answers to a reload, by process."""
        return as_dict(self.command("HGETALL", self.key("reload", str(generation))))

    def publish_settings(self, text: str) -> None:
        """Stores the settings in force, as JSON without secrets."""
        self.command("SET", self.key("settings"), text)

    def published_settings(self) -> str | None:
        text: str | None = self.command("GET", self.key("settings"))
        return text

    def had_rules(self, name: str | None) -> str | None:
        """Remembers the name of the rules file that is read now. With None: returns the one that
        was read before, if there was one.
        """
        if name:
            self.command("SET", self.key("rules_file"), name)
        return str(name or self.command("GET", self.key("rules_file")) or "") or None

    # What does not work
    # -------------------------------------------------------------------------------------

    def degrade(self, what: str, why: str) -> None:
        """`what` was tried and failed. Forgotten two minutes after the last failure."""
        with self.pipeline() as pipe:
            pipe.hset(self.key("degraded"), what, f"{to_ms(self.now())}|{why}")
            pipe.expire(self.key("degraded"), round(_DEGRADED_FOR.total_seconds()))

    def restore(self, *what: str) -> bool:
        """These work again. True if one of them was degraded."""
        return bool(self.command("HDEL", self.key("degraded"), *what))

    def degraded(self) -> dict[str, str]:
        """What does not work, and why."""
        failures = {
            what: text.partition("|")
            for what, text in as_dict(self.command("HGETALL", self.key("degraded"))).items()
        }
        since = to_ms(self.now() - _DEGRADED_FOR) if failures else 0
        return {what: why for what, (at, _, why) in sorted(failures.items()) if int(at) >= since}
