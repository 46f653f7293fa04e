"""The checker finds every fault: each test spoils one thing of a good run."""

import hashlib
import json
from pathlib import Path

import pytest

from emulator.audio import Audio
from faults.checker import Allowed, Owed, judge, over

T, ACCOUNT = 1_790_000_000.0, "MA_X"  # 2026-09-21 14:13:20 UTC


class Played:
    """One recording of each kind: stopped at its deadline, on a trigger, ended by its call."""

    def __init__(self, archive):
        self.archive, self.log, self.book, self.owed = archive, [], [], {}
        self.add("deadline", Owed(after_s=4), ends=4.02)
        self.add("trigger", Owed(after_s=60, trigger="DialConnected"), ends=2.01)
        self.tell("trigger", "DialConnected", T + 2 - 0.01, about="call")
        self.add("hangup", Owed(), ends=3, reason="HungUp")

    def add(self, rid, owed, *, ends, reason="StoppedByAPI", container="mp3"):
        url = f"http://media/v1/Account/{ACCOUNT}/Recording/{rid}.{container}"
        made = {
            "recording_id": rid,
            "call_uuid": f"call-{rid}",
            "started_at": T,
            "ended_at": T + ends,
            "end_reason": reason,
            "url": url,
            "container": container,
            "channels": 1,
        }
        self.book.append(made)
        self.owed[rid] = owed
        self.tell(rid, "Record", T)
        if reason == "StoppedByAPI":
            self.delete(rid, T + ends - 0.001)
        self.tell(rid, "RecordStop", T + ends + 0.05)
        self.put(made)

    def tell(self, rid, event, at, *, status=200, about="recording", elapsed=0.01, **more):
        self.log.append(
            {
                "kind": "callback",
                "event": event,
                "status": status,
                "at": at,
                "elapsed": elapsed,
                "call_uuid": f"call-{rid}",
                "fields": {"RecordingID": rid} if about == "recording" else {},
                **more,
            }
        )

    def delete(self, rid, at, *, status=204, url=None):
        body = json.dumps({"URL": url}) if url else ""
        self.log.append(
            {
                "kind": "request",
                "method": "DELETE",
                "path": f"/api/v1/Account/{ACCOUNT}/Call/call-{rid}/Record/",
                "at": at,
                "status": status,
                "body": body,
            }
        )

    def folder(self):
        found = self.archive / ACCOUNT / "2026" / "09" / "21"
        found.mkdir(parents=True, exist_ok=True)
        return found

    def put(self, made, *, container=None):
        container, rid = container or made["container"], made["recording_id"]
        data = b"".join(
            Audio(container, 1, (made["ended_at"] - made["started_at"]) * 1000, rid).stream()
        )
        (self.folder() / f"{rid}.{container}").write_bytes(data)
        media = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (self.folder() / f"{rid}.json").write_text(
            json.dumps(
                {
                    "recording_id": rid,
                    "call_uuid": made["call_uuid"],
                    "account": ACCOUNT,
                    "media": media,
                    "fetch": {"fetched_at": "2026-09-21T14:13:30.000Z"},
                }
            )
        )

    def recording(self, rid):
        return next(r for r in self.book if r["recording_id"] == rid)

    def judged(self, down=(), **allowed):
        return judge(
            self.log,
            self.book,
            self.owed,
            self.archive,
            account=ACCOUNT,
            down=down,
            allowed=Allowed(**allowed),
        )


@pytest.fixture
def played(tmp_path):
    return Played(tmp_path)


@pytest.mark.parametrize(("at", "wrong"), [(T + 11, 0), (T + 9, 1)])
def test_a_deletion_at_the_provider_of_what_is_not_in_the_archive_is_found(played, at, wrong):
    path = f"/api/v1/Account/{ACCOUNT}/Recording/hangup/"
    played.log.append({"kind": "request", "method": "DELETE", "path": path, "at": at, "body": ""})
    found = played.judged().wrong
    assert found == ["hangup: deleted at the provider before it was archived"] * wrong


def test_a_run_in_which_all_is_well_has_nothing_to_say(played):
    found = played.judged()
    assert (found.recordings, found.owed_stops, found.repeats) == (3, 2, 0)
    assert [
        found.unstopped,
        found.stopped_wrongly,
        found.early,
        found.lost,
        found.wrong,
        found.unannounced,
    ] == [[]] * 6
    assert found.late_s == pytest.approx([0.01, 0.01], abs=0.002)
    assert over(played.book, played.archive)


def test_a_recording_that_ran_until_its_call_ended_is_unstopped(played):
    played.recording("deadline")["end_reason"] = "HungUp"
    assert played.judged().unstopped == ["deadline"]


def test_a_recording_that_still_runs_is_unstopped_and_lost(played):
    played.recording("trigger").update(ended_at=None, end_reason=None)
    for path in played.folder().glob("trigger.*"):
        path.unlink()
    found = played.judged()
    assert (found.unstopped, found.lost) == (["trigger"], ["trigger"])
    assert not over(played.book, played.archive)


def test_a_stop_of_what_should_have_run_on_is_wrong(played):
    played.recording("hangup")["end_reason"] = "StoppedByAPI"
    assert played.judged().stopped_wrongly == ["hangup"]


def test_a_stop_before_anything_can_have_been_due_is_early(played):
    played.recording("deadline")["ended_at"] = T + 3.9
    played.put(played.recording("deadline"))
    assert len(played.judged().early) == 1
    assert played.judged(early_s=0.2).early == []


def test_a_deadline_that_the_list_told_of_may_come_before_the_callbacks_own_and_no_earlier(played):
    played.log = [
        e
        for e in played.log
        if e.get("event") != "Record" or e["fields"]["RecordingID"] != "deadline"
    ]
    played.tell("deadline", "Record", T + 0.7)  # the recording ends 4.02 s after it began
    assert len(played.judged().early) == 1
    assert played.judged(start_listed=True).early == []
    played.recording("deadline")["ended_at"] = T + 3.9
    played.put(played.recording("deadline"))
    assert len(played.judged(start_listed=True).early) == 1


def test_lateness_counts_from_the_answer_and_redis_own_downtime_is_taken_off(played):
    played.recording("deadline")["ended_at"] = T + 14.01
    assert max(played.judged().late_s) == pytest.approx(10, abs=0.01)
    assert max(
        played.judged(down=[(T + 1, T + 6), (T + 10, T + 11), (T + 20, T + 21)]).late_s
    ) == pytest.approx(7.01, abs=0.01)


def test_a_try_without_an_answer_does_not_make_a_deadline(played):
    played.log = [
        e
        for e in played.log
        if not (
            e["kind"] == "callback" and e["event"] == "Record" and e["call_uuid"] == "call-deadline"
        )
    ]
    played.tell("deadline", "Record", T, status=0)
    played.tell("deadline", "Record", T + 1)
    assert played.judged().late_s[0] == 0
    assert played.judged().early == []


def test_what_no_callback_told_of_is_judged_by_its_start(played):
    played.log = [
        e for e in played.log if not (e["kind"] == "callback" and e["call_uuid"] == "call-deadline")
    ]
    played.tell("deadline", "Record", T, lost=True)
    played.tell("deadline", "RecordStop", T + 5, status=503)
    found = played.judged()
    assert (found.unannounced, found.recordings) == (["deadline"], 3)
    assert found.late_s[0] == pytest.approx(0.02)


def test_where_the_beginning_was_never_heard_of_no_stop_is_owed_if_the_day_was_such(played):
    played.log = [
        e
        for e in played.log
        if not (
            e["kind"] == "callback" and e["event"] == "Record" and e["call_uuid"] == "call-deadline"
        )
    ]
    played.recording("deadline")["end_reason"] = "HungUp"
    assert played.judged().unstopped == ["deadline"]
    assert (played.judged(unheard=True).unstopped, played.judged(unheard=True).recordings) == (
        [],
        3,
    )


@pytest.mark.parametrize("at", [T + 4.01, T + 9])
def test_a_stop_that_could_end_nothing_any_more_is_a_repeat(played, at):
    played.delete("deadline", at, status=204)
    assert played.judged().repeats == 1


def test_a_first_stop_of_what_ended_without_our_being_told_is_none(played):
    played.log = [
        e for e in played.log if not (e["kind"] == "callback" and e["event"] == "RecordStop")
    ]
    played.delete("hangup", T + 4, status=404)
    assert played.judged().repeats == 0
    played.tell("hangup", "Hangup", T + 3, about="call")
    assert played.judged().repeats == 1


def test_a_stop_after_a_failed_one_or_a_deaf_one_is_none(played):
    played.delete("deadline", T + 4, status=503)
    assert played.judged().repeats == 0
    played.delete("deadline", T + 4, status=204)
    assert played.judged(deaf=True).repeats == 0
    assert played.judged().repeats == 1


def test_stops_by_url_of_two_recordings_are_told_apart(played):
    second = {
        **played.recording("deadline"),
        "recording_id": "second",
        "url": "http://media/second.mp3",
        "ended_at": T + 8,
    }
    played.book.append(second)
    played.put(second)
    played.tell("second", "Record", T)
    first = next(e for e in played.log if e["kind"] == "request" and "call-deadline" in e["path"])
    first["body"] = json.dumps({"URL": played.recording("deadline")["url"]})
    played.delete("deadline", T + 7.99, url=second["url"])
    assert played.judged().repeats == 0
    played.delete("deadline", T + 7.995, url=played.recording("deadline")["url"])
    assert played.judged().repeats == 1


@pytest.mark.parametrize(
    ("spoil", "lost", "wrong"),
    [
        (lambda p: p.with_suffix(".mp3").unlink(), 1, 1),
        (lambda p: p.with_suffix(".json").unlink(), 1, 0),
        (
            lambda p: p.with_suffix(".mp3").write_bytes(p.with_suffix(".mp3").read_bytes()[:-1]),
            0,
            2,
        ),
        (lambda p: p.with_suffix(".mp3").write_bytes(b""), 0, 2),
        (lambda p: p.with_suffix(".json").write_text("{"), 0, 1),
        (
            lambda p: p.with_suffix(".json").write_text(
                p.with_suffix(".json").read_text().replace("call-deadline", "call-other")
            ),
            0,
            1,
        ),
        (lambda p: p.with_suffix(".wav").write_bytes(b"x"), 0, 1),
        (lambda p: p.with_name("stranger.mp3").write_bytes(b"x"), 0, 1),
        (
            lambda p: (
                (p.parent.parent / "22").mkdir()
                or p.with_suffix(".mp3").rename(p.parent.parent / "22" / "deadline.mp3")
            ),
            0,
            1,
        ),
        (lambda p: (p.parents[3] / "elsewhere.txt").write_bytes(b"x"), 0, 1),
    ],
    ids=[
        "no audio",
        "no receipt",
        "a byte short",
        "empty",
        "no JSON",
        "another call",
        "twice",
        "a stranger",
        "another day",
        "another shape",
    ],
)
def test_anything_wrong_under_a_final_name_is_found(played, spoil, lost, wrong):
    spoil(Path(played.folder()) / "deadline")
    found = played.judged()
    assert (len(found.lost), len(found.wrong)) == (lost, wrong), found.wrong


def test_the_other_container_is_wrong_unless_the_day_was_such(played):
    (played.folder() / "deadline.mp3").unlink()
    played.put(played.recording("deadline"), container="wav")
    assert len(played.judged().wrong) == 1
    assert played.judged(other_container=True).wrong == []


def test_what_is_unfinished_has_a_dot_and_is_only_counted(played):
    (played.folder() / ".deadline.7.part").write_bytes(b"x")
    assert (played.judged().wrong, played.judged().unfinished) == ([], 1)


def test_answers_are_counted_and_the_slowest_is_told(played):
    played.tell("deadline", "Hangup", T, status=503, about="call", elapsed=0.7)
    assert played.judged().answers == {200: 7, 503: 1}
    assert played.judged().slowest_answer_s == 0.7


def test_what_stands_beside_a_recording_and_the_books_of_the_account_are_known(played):
    account = played.archive / ACCOUNT
    for name in (
        "facts/deadline/1.json",
        "days/2026-09-21.json",
        "days/2026-09-21.sha256",
        "history/2026-09-21.jsonl",
        "2026/09/21/deadline.absent.json",
    ):
        for end in ("", ".sig"):
            (account / name).parent.mkdir(parents=True, exist_ok=True)
            (account / f"{name}{end}").write_text("x")
    found = played.judged()
    assert (found.lost, found.wrong) == ([], [])
    for strange in ("facts/deadline/x.json", "days/note.txt", "history/2026.jsonl"):
        (account / strange).write_text("x")
    assert len(played.judged().wrong) == 3
    for path in played.folder().glob("deadline.[mj]*"):
        path.unlink()
    assert played.judged().lost == ["deadline"]
    assert not over(played.book, played.archive)
