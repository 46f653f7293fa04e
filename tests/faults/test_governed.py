"""The judge of a run with holds and erasing finds every fault: each test spoils one thing."""

import hashlib
import json

import pytest

from emulator.audio import Audio
from faults.governed import RETAIN_S, RETAINING, Told, judge, rules
from faults.stage import RULES
from worker.archive import signing
from worker.archive.signing_key import Signer
from worker.calls.rules_file import read

T, ACCOUNT = 1_790_000_000.0, "MA_X"  # 2026-09-21 14:13:20 UTC
LATER = "2026-09-21T14:13:{}.000Z".format


class Played:
    """Two recordings: `kept`, offloaded 10 s after its start, and `erased`, by an order at 20 s."""

    def __init__(self, folder):
        self.folder = folder / ACCOUNT / "2026" / "09" / "21"
        self.folder.mkdir(parents=True)
        self.signer = Signer(folder / "key", "endtape@test")
        self.book = [self.made("kept"), self.made("erased")]
        self.told = {"kept": Told(), "erased": Told(erase_sent=True, erase_taken=True)}
        self.log, self.there = [], set()
        self.delete("kept", T + 10)
        self.delete("erased", T + 10)
        (self.folder / "kept.json").write_text("{}")
        audio = b"".join(Audio("mp3", 1, 3000, "erased").stream())
        self.sha256 = hashlib.sha256(audio).hexdigest()
        self.bury(at=LATER(40))

    def made(self, rid):
        times = {"started_at": T, "ended_at": T + 3}
        return {"recording_id": rid, "container": "mp3", "channels": 1, **times}

    def delete(self, rid, at):
        path = f"/api/v1/Account/{ACCOUNT}/Recording/{rid}/"
        self.log.append({"kind": "request", "method": "DELETE", "path": path, "at": at})

    def bury(self, **said):
        told = {"at": LATER(40), "rule": None, "sha256": self.sha256, **said}
        content = json.dumps(told).encode()
        (self.folder / "erased.erased.json").write_bytes(content)
        signature = self.signer.key().sign(content, signing.RECEIPTS)
        (self.folder / "erased.erased.json.sig").write_bytes(signature)

    def judged(self):
        archive = self.folder.parents[3]
        return judge(self.told, self.log, self.book, self.there, archive)


@pytest.fixture
def played(tmp_path):
    return Played(tmp_path)


def fact(played, name):
    folder = played.folder.parents[2] / "facts" / "erased"
    folder.mkdir(parents=True)
    (folder / name).write_text("{}")


SPOILT = {
    "deleted at the provider while it was held": lambda p: p.told.update(kept=Told(held_at=T + 9)),
    "and no tombstone stands": lambda p: p.told.update(kept=Told(erase_taken=True)),
    "kept: the provider still has it": lambda p: p.there.add("kept"),
    "neither a receipt nor a tombstone": lambda p: (p.folder / "kept.json").unlink(),
    "the time of `retain` is over": lambda p: (p.folder / "kept.json").write_text(
        json.dumps({"retain": {"until": LATER(40)}})
    ),
    "and nobody deleted it": lambda p: p.log.pop(0),
    "erased while it was held": lambda p: p.told["erased"].__init__(
        held_at=T + 19, erase_sent=True, erase_taken=True
    ),
    "nobody ordered it": lambda p: p.told.update(erased=Told()),
    "erased, and the provider still has it": lambda p: p.there.add("erased"),
    "erased, and erased.mp3 is there": lambda p: (p.folder / "erased.mp3").write_text("x"),
    "erased, and 1.json is there": lambda p: fact(p, "1.json"),
    "is not signed": lambda p: (p.folder / "erased.erased.json.sig").unlink(),
    "before it was archived or erased": lambda p: p.bury(sha256=None),
    "POST erase: 503 to the end": lambda p: p.told.update(
        kept=Told(failed="POST erase: 503 to the end")
    ),
}


def test_a_run_in_which_every_order_was_kept_has_nothing_to_say(played):
    assert played.judged() == []
    played.told["kept"] = Told(held_at=T + 3, released_at=T + 9)
    played.told["erased"] = Told()
    played.bury(rule=RETAINING)
    assert played.judged() == []


@pytest.mark.parametrize("said", SPOILT)
def test_each_order_that_was_not_kept_is_found(played, said):
    SPOILT[said](played)
    (one,) = played.judged()
    assert said in one


def test_the_rules_of_the_run_offload_all_and_retain_some():
    read_rules = read(rules(RULES), "endtape.toml").rules
    assert all(terms.keep_at_provider is not None for terms in read_rules.all_terms)
    kept = [rule.terms.retain for rule in read_rules.rules]
    assert [r.total_seconds() for r in kept if r] == [RETAIN_S]
