"""The hand-off over real HTTP and Redis: the whole table of its answers, and what it does to the
provider."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import pytest
import requests

from tests.constants import ACCOUNT, KEY
from tests.waiting import until

HOUR = '[defaults]\nmax_duration = "1h"\nconfirm_within = "1s"\n'
WAIT_S = 1.2


def ask(house, call, path="handoff", *, key=KEY, idempotency=None, **body):
    headers = {
        "Authorization": f"Bearer {key}",
        **({"Idempotency-Key": idempotency} if idempotency else {}),
    }
    return requests.post(
        f"{house.base}/v1/calls/{call}/{path}", json=body, headers=headers, timeout=40
    )


def recorded(house, **how):
    call = house.provider.call(announce=True)
    recording = house.provider.record(call.call_uuid, **how)
    house.reach(recording.recording_id, "recording")
    return call.call_uuid, recording.recording_id


def transfers(house, call):
    return [
        e for e in house.requests("POST", f"/Call/{call}/") if not e["path"].endswith("/Record/")
    ]


# The table: rule × provider × call × if_unproven
# --------------------------------------------------------------------

ACTIONS = {
    "stop": 'on = { "transfer.blind" = "stop" }',
    "keep": 'on = { "transfer.blind" = "keep" }',
    "nothing": "",
}
PROVIDERS = {
    "obeys": {},
    "deaf": {"deaf-stop": {}},
    "slow": {"slow-finalise": {"seconds": 0.4}},
    "down": {"stop-fails-first": {}},
}
CALLS = ("known", "over", "unknown", "b-leg", "without a recording", "declared empty", "trunk")
TABLE = HOUR + "".join(
    f'[[rules]]\nname = "{action}, {end}"\nmatch = {{ labels = {{ case = "{action}, {end}" }} }}\nif_unproven = "{end}"\n{on}\n'
    for (action, on), end in product(ACTIONS.items(), ("hold", "go"))
)


def made(house, kind):
    """A call in that state: the uuid to ask about, the A-leg's, and its recordings."""
    call = house.provider.call(announce=kind not in {"unknown", "trunk"}, trunk=kind == "trunk")
    recordings = (
        [house.provider.record(call.call_uuid)] if kind in {"known", "over", "b-leg"} else []
    )
    asked = (
        house.provider.dial(call.call_uuid, "918065550199") if kind == "b-leg" else call.call_uuid
    )
    if kind == "over":
        house.provider.hangup(call.call_uuid)
    if kind == "declared empty":
        requests.put(
            f"{house.base}/v1/calls/{call.call_uuid}",
            json={"recordings": []},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=5,
        )
    return asked, call.call_uuid, [r.recording_id for r in recordings]


def knows(house, call, count):
    return len(house.call(call).recordings) >= count


def expected(action, provider, kind, end):
    """Status, verdict, proven, evidence (None: any), whether stops are sent."""
    if action == "keep":
        return 200, "go", kind == "over", None, False
    if kind == "over":
        return 200, "go", True, {"call_over"}, False
    if kind == "declared empty":
        return 200, "go", True, {"declared"}, False
    if kind == "trunk":
        return 409, "hold", False, set(), False
    if kind in {"known", "b-leg"} and provider in {"obeys", "slow"}:
        return 200, "go", True, {"callback"}, True
    return (200, "go", False, set(), True) if end == "go" else (409, "hold", False, set(), True)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_row_of_the_hand_off_table_has_its_answer_and_its_requests(local, provider):
    house = local(
        rules=TABLE, signatures="optional"
    )  # trunk webhooks come without, where no secret is agreed
    rows = list(product(ACTIONS, CALLS, ("hold", "go")))
    calls = {row: made(house, row[1]) for row in rows}
    for name, how in PROVIDERS[provider].items():
        house.provider.faults.switch_on(
            name, **how, call_uuid=[a_leg for _, a_leg, _ in calls.values()]
        )
    house.provider.wait_idle(10)
    for _, a_leg, recordings in calls.values():
        until(partial(knows, house, a_leg, len(recordings)))

    def run(row):
        action, _, end = row
        began = time.monotonic()
        answer = ask(
            house,
            calls[row][0],
            kind="blind",
            to="918065550199",
            wait_s=WAIT_S,
            labels={"case": f"{action}, {end}"},
        )
        return answer, time.monotonic() - began

    with ThreadPoolExecutor(14) as pool:
        answers = dict(zip(rows, pool.map(run, rows), strict=True))
    for row, (answer, took_s) in answers.items():
        action, kind, end = row
        status, verdict, proven, evidence, stopped = expected(action, provider, kind, end)
        said, about = answer.json(), f"{provider}, {row}: {answer.text}"
        assert (answer.status_code, said["verdict"], said["proven"]) == (status, verdict, proven), (
            about
        )
        assert evidence is None or (
            evidence <= set(said["evidence"]) and bool(said["evidence"]) == bool(evidence)
        ), about
        assert said["rule"] == f"{action}, {end}", about
        assert "transfer" not in said, about
        assert answer.headers["Content-Type"] == (
            "application/json" if status == 200 else "application/problem+json"
        )
        waited = not proven and action != "keep" and kind != "trunk"
        assert (took_s >= WAIT_S) if waited else (took_s < WAIT_S + 1), about
        sent = house.requests("DELETE", calls[row][1])
        assert bool(sent) == stopped, about
        assert {e["body"] for e in sent} <= {""}, about


# Transfers that we send
# ---------------------------------------------------------------------------------------------


def wanted(house):
    return {"legs": "aleg", "aleg_url": house.callback}


def test_the_transfer_goes_out_once_after_the_proof_and_its_own_events_change_nothing(local):
    house = local(rules=HOUR + 'on = { transfer = "stop", "dial.connected" = "stop" }')
    call, recording = recorded(house)
    house.provider.faults.switch_on("slow-finalise", seconds=0.3)
    said = ask(house, call, kind="blind", transfer=wanted(house)).json()
    assert (said["verdict"], said["proven"], said["transfer"]) == ("go", True, "sent")
    (sent,) = transfers(house, call)
    proof = next(e for e in house.ledger.events(ACCOUNT, call) if e.kind == "RecordingFinalized")
    assert sent["at"] >= proof.at.timestamp()
    house.provider.wait_idle(5)
    house.provider.dial(call, "918065550199")
    second = ask(house, call, "recordings").json()[
        "recording_id"
    ]  # a later one of ours is nobody's to stop
    house.provider.wait_idle(5)
    house.provider.dial_end(call)
    house.provider.dial(call, "918065550199")
    house.provider.wait_idle(5)
    assert sum(e.kind == "DialConnected" for e in house.ledger.events(ACCOUNT, call)) == 2
    assert house.recording(second)["phase"] == "recording"
    assert (
        len(house.requests("DELETE", call)) == 1
    )  # the transfer's own events: no rule acts on them again
    assert house.recording(recording)["stop"]["trigger"] == "transfer.blind"


def test_the_same_question_with_one_key_is_asked_once_and_another_with_it_is_refused(local):
    house = local(rules=HOUR)
    call, _ = recorded(house)
    with ThreadPoolExecutor(8) as pool:
        said = list(
            pool.map(
                lambda _: ask(house, call, idempotency="k1", kind="blind", transfer=wanted(house)),
                range(8),
            )
        )
    assert {a.status_code for a in said} == {200}
    assert len({a.json()["handoff_id"] for a in said}) == 1
    assert {a.json()["transfer"] for a in said} == {"sent"}
    assert len(transfers(house, call)) == 1
    assert (
        ask(house, call, idempotency="k1", kind="blind", transfer=wanted(house)).json()["transfer"]
        == "sent"
    )
    assert len(transfers(house, call)) == 1
    other = ask(house, call, idempotency="k1", kind="attended", transfer=wanted(house))
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")


def test_questions_at_the_same_time_share_one_stop_and_equal_ones_one_transfer(local):
    house = local(rules=HOUR)
    call, _ = recorded(house)
    house.provider.faults.switch_on("slow-finalise", seconds=0.3)
    with ThreadPoolExecutor(10) as pool:
        said = list(
            pool.map(
                lambda _: ask(house, call, kind="blind", transfer=wanted(house)).json(), range(10)
            )
        )
    assert {s["verdict"] for s in said} == {"go"}
    assert len(house.requests("DELETE", call)) == 1
    assert len(transfers(house, call)) == 1


def test_a_hold_sends_no_transfer_even_when_the_proof_comes_later_and_the_stop_is_pursued(local):
    house = local(rules=HOUR)
    call, recording = recorded(house)
    house.provider.faults.switch_on("deaf-stop", call_uuid=call)
    answer = ask(house, call, kind="blind", wait_s=0.4, transfer=wanted(house), idempotency="k")
    assert (answer.status_code, answer.json()["verdict"], answer.json()["transfer"]) == (
        409,
        "hold",
        "not_sent",
    )
    house.provider.faults.switch_off("deaf-stop")
    house.stop_reaches(recording, "confirmed")  # it goes on being pursued
    again = ask(house, call, kind="blind", wait_s=0.4, transfer=wanted(house), idempotency="k")
    assert (again.status_code, again.json()["verdict"]) == (409, "hold")
    assert transfers(house, call) == []
    fresh = ask(
        house, call, kind="blind", transfer=wanted(house)
    )  # a new question has a new answer
    assert (fresh.status_code, fresh.json()["transfer"]) == (200, "sent")


def test_without_proof_and_with_go_the_transfer_leaves_just_before_the_wait_ends(local):
    house = local(rules=HOUR + 'if_unproven = "go"\n')
    call, _ = recorded(house)
    house.provider.faults.switch_on("deaf-stop", call_uuid=call)
    began = time.time()
    said = ask(house, call, kind="blind", wait_s=1, transfer=wanted(house)).json()
    assert (said["verdict"], said["proven"], said["transfer"]) == ("go", False, "sent")
    (sent,) = transfers(house, call)
    assert 0.7 <= sent["at"] - began <= 1.05


def test_a_rule_that_keeps_transfers_at_once_and_stops_nothing(local):
    house = local(rules=HOUR + 'on = { "transfer.attended" = "keep" }')
    call, _ = recorded(house)
    said = ask(house, call, kind="attended", wait_s=0, transfer=wanted(house)).json()
    assert (said["verdict"], said["proven"], said["action"], said["transfer"]) == (
        "go",
        False,
        "keep",
        "sent",
    )
    assert house.requests("DELETE", call) == []


def test_an_observing_rule_stops_nothing_and_says_why_it_holds(local):
    house = local()
    call, _ = recorded(house)
    answer = ask(house, call, kind="blind", wait_s=0.2)
    assert answer.status_code == 409
    assert "observe" in answer.json()["reason"]
    assert house.requests("DELETE", call) == []


@pytest.mark.parametrize("kind", ["blind", "attended", "conference", "ai_to_human", "warm_by_bot"])
def test_the_more_specific_key_wins_and_any_word_may_be_a_kind(local, kind):
    house = local(rules=HOUR + f'on = {{ transfer = "keep", "transfer.{kind}" = "stop" }}')
    call, _ = recorded(house)
    said = ask(house, call, kind=kind).json()
    assert (said["verdict"], said["proven"], said["action"], said["kind"]) == (
        "go",
        True,
        "stop",
        f"transfer.{kind}",
    )
    assert ask(house, call, kind="other").json()["action"] == "keep"


def test_a_recording_that_began_in_another_call_state_is_told_by_declaring_it(local):
    house = local(rules=HOUR)
    call = house.provider.call().call_uuid
    recording = house.provider.record(call, announce=False)
    told = requests.put(
        f"{house.base}/v1/calls/{call}",
        json={"recordings": [{"url": recording.url}]},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=5,
    )
    assert [r["recording_id"] for r in told.json()["recordings"]] == [recording.recording_id]
    said = ask(house, call, kind="blind").json()
    assert said["verdict"] == "go"
    assert {"callback", "listed"} & set(said["evidence"])  # whichever came first


def test_a_404_proves_the_end_of_a_call_that_the_provider_reported_and_of_no_other(local):
    house = local(rules=HOUR)
    call, _ = recorded(house)
    house.provider.faults.switch_on("lost-callbacks", call_uuid=call)
    house.provider.hangup(call)
    said = ask(house, call, kind="blind").json()
    assert (said["verdict"], said["evidence"]) == ("go", ["call_over"])
    assert ask(house, "never-heard-of", kind="blind", wait_s=0.3).status_code == 409


def test_a_later_stop_for_a_call_without_a_known_recording_never_ends_a_newer_one(local):
    house = local(rules=HOUR)
    call = house.provider.call(announce=True).call_uuid
    assert ask(house, call, kind="blind", wait_s=0.2).status_code == 409
    started = ask(house, call, "recordings").json()
    until(lambda: any(e.kind == "StopUnknown" for e in house.ledger.events(ACCOUNT, call)), 20)
    assert house.recording(started["recording_id"])["phase"] == "recording"
    assert len(house.requests("DELETE", call)) == 1


def test_failed_transfers_resume_where_the_rule_says_so_by_word_and_from_the_wire(local):
    house = local(rules=HOUR + 'on = { transfer = "stop", "transfer.failed" = "resume" }')
    for by_word in (True, False):
        call, first = recorded(house, container="wav")
        if by_word:
            assert ask(house, call, kind="blind", transfer=wanted(house)).json()["verdict"] == "go"
            assert house.provider.wait_idle(
                5
            )  # a Transfer that is told after its failure is a transfer of its own
            said = ask(house, call, "handoff/failed").json()
            assert (said["action"], said["resumed"], len(said["recordings"])) == ("resume", True, 1)
        else:
            house.provider.event(call, "Transfer")
            house.stop_reaches(first, "confirmed")
            house.provider.dial(call, "918065550199", cause="USER_BUSY")
        second = until(
            lambda c=call: [r for r in house.call(c).recordings.values() if r.segment_of]
        )[0]
        assert (second.segment_of, second.format) == (first, "wav")
        assert house.recording(second.recording_id)["phase"] == "recording"


def test_a_dial_that_was_connected_is_no_failed_transfer(local):
    house = local(rules=HOUR + 'on = { transfer = "stop", "transfer.failed" = "resume" }')
    call, first = recorded(house)
    house.provider.dial(call, "918065550199")
    house.stop_reaches(first, "confirmed")
    house.provider.dial_end(call)
    house.provider.wait_idle(5)
    house.reach(first, "archived")
    assert len(house.call(call).recordings) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"wait_s": 31}, "wait_s"),
        ({"wait_s": -1}, "wait_s"),
        ({"wait_s": "3"}, "wait_s"),
        ({"kind": "Blind Transfer"}, "kind"),
        ({"kind": "failed"}, "kind"),
        ({"transfer": []}, "transfer"),
        ({"transfer": {}}, "transfer"),
        ({"nonsense": 1}, "nonsense"),
        ({"account": "MA_OTHER"}, "account"),
        ({"labels": {"a": 1}}, "labels[...]"),
    ],
)
def test_what_cannot_be_is_refused_by_name(local, body, field):
    house = local(rules=HOUR)
    answer = ask(house, "c1", **body)
    assert (answer.status_code, answer.headers["Content-Type"], answer.json().get("field")) == (
        400,
        "application/problem+json",
        field,
    )
    assert house.ledger.events(ACCOUNT, "c1") == []


def test_a_lost_end_callback_is_looked_for_while_somebody_waits(local):
    house = local(rules='[defaults]\nconfirm_within = "10s"\n')
    call, _ = recorded(house)
    house.provider.faults.switch_on("lost-callbacks", call_uuid=call)
    said = ask(house, call, kind="blind", wait_s=5).json()
    assert (said["verdict"], said["evidence"]) == ("go", ["listed"])
