"""An operator beside the load, who holds, releases and erases recordings at random while processes
are killed, and whether each order was kept: by the emulator's journal and by the archive.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import requests

from faults import harm
from faults.checker import Allowed, Entry, digests
from faults.deletions import deletions
from faults.performance import Run
from faults.stage import KEY, Stage
from worker import wire
from worker.archive import signing
from worker.calls.obligations import Duty

RETAINING = "keeps"  # the rule whose recordings are erased by `retain`
RETAIN_S = 12
_FATES = {"left": 0.3, "held": 0.15, "released": 0.15, "erased": 0.2, "raced": 0.2}
_LAST_CALL_S, _ASKED_FOR_S, _SETTLE_S = 6.0, 60.0, 150.0
_MARK = ".erased.json"


@dataclass(slots=True)
class Told:
    """What the operator did to one recording, by the operator's clock. `held_at`: when a hold was
    answered 200. `released_at`: when a release was sent. `erase_sent`: whether an order was.
    `erase_taken`: whether it was answered 200 or 202.
    """

    held_at: float = math.inf
    released_at: float = math.inf
    erase_sent: bool = False
    erase_taken: bool = False
    failed: str = ""

    def was_held(self, at: float) -> bool:
        return self.held_at <= at < self.released_at


@dataclass(slots=True)
class Operator:
    """Decides the fate of each recording that begins, and orders it by `/v1`."""

    url: str
    chance: random.Random
    told: dict[str, Told] = field(default_factory=dict)

    def watch(self, stage: Stage, ended: threading.Event) -> None:
        """Until `ended`; returns when every order was answered."""
        with ThreadPoolExecutor(48) as crew:
            while not ended.is_set():
                for recording in stage.control.recordings():
                    if recording["recording_id"] not in self.told:
                        self._meet(crew, recording["recording_id"])
                ended.wait(0.5)

    def _meet(self, crew: ThreadPoolExecutor, rid: str) -> None:
        told = self.told[rid] = Told()
        fate = self.chance.choices(list(_FATES), list(_FATES.values()))[0]
        after_s, for_s = self.chance.uniform(0, 12), self.chance.uniform(2, 8)
        if fate in {"held", "released", "raced"}:
            lasts_s = for_s if fate == "released" else math.inf
            crew.submit(self._hold, rid, told, after_s, lasts_s)
        if fate in {"erased", "raced"}:
            crew.submit(self._erase, rid, told, after_s)

    def _hold(self, rid: str, told: Told, after_s: float, for_s: float) -> None:
        time.sleep(after_s)
        if self._ask("PUT", f"{rid}/hold", told, {200, 410}) != 200:
            return
        told.held_at = time.time()
        if for_s < math.inf:
            time.sleep(for_s)
            told.released_at = time.time()
            self._ask("DELETE", f"{rid}/hold", told, {200, 410})

    def _erase(self, rid: str, told: Told, after_s: float) -> None:
        time.sleep(after_s)
        told.erase_sent = True
        told.erase_taken = self._ask("POST", f"{rid}/erase", told, {200, 202}) in {200, 202}

    def _ask(self, method: str, path: str, told: Told, final: set[int]) -> int:
        """The answer, asked for until it is final. 409 is, where the recording is held."""
        last, until = 0, time.monotonic() + _ASKED_FOR_S
        while time.monotonic() < until:
            try:
                last = requests.request(
                    method,
                    f"{self.url}/v1/recordings/{path}",
                    json={"reason": "a run"},
                    headers={"Authorization": f"Bearer {KEY}"},
                    timeout=15,
                ).status_code
            except requests.RequestException:
                last = 0
            if last in final or (last == 409 and told.held_at < math.inf):
                return last
            time.sleep(0.3)
        told.failed = f"{method} {path.partition('/')[2]}: {last} to the end"
        return last


def of_kills(run: Run, stage: Stage) -> None:
    """Kills as `harm.kills` does, while an operator gives orders; then waits until all of them are
    carried out, and judges.
    """
    operator = Operator(f"http://127.0.0.1:{stage.door.port}", random.Random(run.seed))
    over = threading.Event()
    watching = threading.Thread(target=operator.watch, args=(stage, over))
    watching.start()
    try:
        harm.kills(run, stage)
        run.ended.wait(_LAST_CALL_S)
    finally:
        over.set()
        watching.join()
    until = time.monotonic() + _SETTLE_S
    while (wrong := _judged(operator, stage)) and time.monotonic() < until:
        run.ended.wait(1)
    kinds = {
        "held": sum(t.held_at < math.inf for t in operator.told.values()),
        "released": sum(t.released_at < math.inf for t in operator.told.values()),
        "orders to erase": sum(t.erase_taken for t in operator.told.values()),
        "erased": len(_tombstones(stage.archive)),
        "deleted at the provider": len(stage.control.ask("GET", "state")["deleted"]),
    }
    run.did.append(", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    if wrong:
        run.broken.append(f"{len(wrong)} orders or deletions: {'; '.join(wrong[:5])}")
        run.broken += [_explained(stage, operator.told, text) for text in wrong[:5]]


def _explained(stage: Stage, told: Mapping[str, Told], text: str) -> str:
    """What is known of the recording that a sentence is about."""
    rid = text.partition(":")[0]
    owed = [
        f"{duty} due {at - time.time():.0f} s from now"
        for duty in (Duty.OFFLOAD, Duty.ERASE, Duty.INDEX)
        for name, at in stage.ledger.command(
            "ZRANGE", stage.ledger.key("due", duty), 0, -1, "WITHSCORES"
        )
        if rid in name
    ]
    facts = sorted(stage.archive.glob(f"*/facts/{rid}/*.json"))
    kinds = [json.loads(path.read_bytes())["kind"] for path in facts]
    return f"{rid}: {told.get(rid)}, facts {kinds}, {owed or 'nothing is owed'}"


def _judged(operator: Operator, stage: Stage) -> list[str]:
    state = stage.control.ask("GET", "state")
    book = [r for r in (*state["recordings"], *state["deleted"]) if r["ended_at"]]
    there = {r["recording_id"] for r in state["recordings"]}
    stage.gather()
    return judge(operator.told, stage.control.log(), book, there, stage.archive)


# Judging
# --------------------------------------------------------------------------------------------------


def judge(
    told: Mapping[str, Told],
    log: Sequence[Entry],
    book: Sequence[Entry],
    there: Collection[str],
    archive: Path,
) -> list[str]:
    """What is wrong, or not carried out yet, a sentence each. `book`: recordings that have ended;
    `there`: those that the provider still has. Offload and `retain` are expected of each.
    """
    deleted, tombstones = deletions(log), _tombstones(archive)
    receipts = {path.stem: path for path in archive.glob("*/*/*/*/*.json")}
    wrong = list[str]()
    for recording in book:
        rid = recording["recording_id"]
        one, at = told.get(rid, Told()), deleted.get(rid, [])
        if one.failed:
            wrong.append(f"{rid}: {one.failed}")
        if any(map(one.was_held, at)):
            wrong.append(f"{rid}: deleted at the provider while it was held")
        if rid in tombstones:
            problems = _of_erased(recording, one, at, tombstones[rid], rid in there)
            wrong += [f"{rid}: {text}" for text in problems]
        else:
            problems = _of_kept(one, at, rid in there, receipts.get(rid))
            wrong += [f"{rid}: {text}" for text in problems]
    return wrong


def _of_kept(
    told: Told, deleted: Sequence[float], is_there: bool, receipt: Path | None
) -> list[str]:
    is_held = told.was_held(time.time())
    if told.erase_taken:
        return ["an order to erase it was taken, and no tombstone stands"]
    if is_there and not is_held:
        return ["the provider still has it"]
    if receipt is None:
        return ["it has neither a receipt nor a tombstone"]
    retain = json.loads(receipt.read_bytes()).get("retain") or {}
    until = wire.parse_rfc3339(retain.get("until") or "")
    if until and until.timestamp() < time.time() and not is_held:
        return ["the time of `retain` is over, and it is not erased"]
    return [] if is_there or deleted else ["the provider has it no more, and nobody deleted it"]


def _of_erased(
    recording: Entry, told: Told, deleted: Sequence[float], tombstone: Path, is_there: bool
) -> list[str]:
    try:
        content = tombstone.read_bytes()
        said = json.loads(content)
        signing.verify(content, Path(f"{tombstone}.sig").read_bytes(), signing.RECEIPTS)
    except (OSError, ValueError, signing.BadSignature) as error:
        return [f"its tombstone cannot be read or is not signed: {error!r}"]
    found, erased_at = list[str](), wire.parse_rfc3339(said["at"])
    assert erased_at is not None
    at = erased_at.timestamp()
    if told.was_held(at):
        found.append("erased while it was held")
    is_due = said["rule"] == RETAINING and at >= recording["started_at"] + RETAIN_S - 0.05
    if not told.erase_sent and not is_due:
        found.append("erased before its time, or nobody ordered it")
    if is_there:
        found.append("erased, and the provider still has it")
    if left := _left(recording, tombstone):
        found.append(f"erased, and {left[0]} is there")
    # Deleted before it was erased: by an offload, so it had been in the archive.
    is_good = said["sha256"] in digests(recording, Allowed()).values()
    if deleted and deleted[0] < at and not is_good:
        found.append("deleted at the provider before it was archived or erased")
    return found


def _left(recording: Entry, tombstone: Path) -> list[str]:
    """The names of what is left of an erased recording."""
    rid, account = recording["recording_id"], tombstone.parents[3]
    beside = [*tombstone.parent.glob(f"{rid}.*"), *(account / "facts" / rid).glob("*")]
    return [path.name for path in beside if not path.name.startswith(f"{rid}{_MARK}")]


def _tombstones(archive: Path) -> dict[str, Path]:
    found = archive.rglob(f"*{_MARK}")
    return {path.name.removesuffix(_MARK): path for path in found if path.name[0] != "."}


def rules(plain: str) -> str:
    """The rules of a run, with an offload of everything and `retain` of some."""
    offload = plain.replace("[defaults]\n", '[defaults]\nkeep_at_provider = "0s"\n')
    name = f'name = "{RETAINING}"\n'
    return offload.replace(name, f'{name}retain = "{RETAIN_S}s"\n')
