"""What a hand-off must see proven, its verdict, and who decides it when."""

import pytest

from tests.calls.builders import (
    MINUTE,
    RULES,
    asked,
    at,
    begins,
    call_of,
    ends,
    event,
    ours,
    start,
    stopped,
)
from worker.calls.events import Kind
from worker.calls.handoffs import (
    concerning,
    decided,
    left_open,
    may_go,
    moments,
    send_by,
    verdict,
    was_sent,
)
from worker.calls.rules import Action, Mode, Rules, Terms
from worker.calls.triggers import act_of, acts

HOLDS, GOES = RULES, Rules(defaults=Terms(max_duration=MINUTE, if_unproven="go"))
KEEPS = Rules(defaults=Terms(on={"transfer": Action.KEEP}))
OBSERVES = Rules(defaults=Terms(mode=Mode.OBSERVE))
SENT = stopped(Kind.STOP_ACCEPTED, 20.5, trigger="transfer.blind", due_at=at(20))


def answer(*events, rules=HOLDS, **facts):
    call = call_of(*events, asked(20, **facts))
    return verdict(call, rules, call.handoffs["h1"])


@pytest.mark.parametrize(
    ("what", "events", "rules", "go", "at_the_end"),
    [
        ("no proof yet", [begins(0), SENT], HOLDS, None, False),
        ("no proof yet, and the rule goes unproven", [begins(0), SENT], GOES, None, True),
        ("proven", [begins(0), SENT, ends(21)], HOLDS, True, True),
        ("proven, but the call was not stopped yet", [begins(0), ends(10)], HOLDS, None, True),
        ("one of two is proven", [begins(0), begins(1, "s"), SENT, ends(21)], HOLDS, None, False),
        ("the call is over", [begins(0), event(Kind.CALL_ENDED, 19)], HOLDS, True, True),
        ("nothing is known", [], HOLDS, None, False),
        ("nothing is being recorded", [ours(Kind.NOTHING_DECLARED, 19)], HOLDS, True, True),
        ("the rule keeps", [begins(0)], KEEPS, True, False),
        ("the rule only observes", [begins(0)], OBSERVES, None, False),
        ("it only observes, and all is over", [begins(0), ends(10)], OBSERVES, True, True),
        ("a trunk recording runs", [begins(0, trunk=True)], GOES, False, False),
        ("no such call", [ours(Kind.CALL_FOUND_OVER, 20.6, requested_at=at(20.5))], HOLDS, False, False),
        ("no such call, and the rule goes unproven", [ours(Kind.CALL_FOUND_OVER, 20.6, requested_at=at(20.5))], GOES, None, True),
        ("a start of ours got no answer", [begins(0), *start(), SENT, ends(21)], HOLDS, None, False),
    ],
)  # fmt: skip
def test_the_verdict(what, events, rules, go, at_the_end):
    found = answer(*events, rules=rules)
    assert (found.go, found.at_the_end) == (go, at_the_end), f"{what}: {found.why}"
    assert found.last_word is (at_the_end if go is None else go)


@pytest.mark.parametrize(
    ("events", "rules", "why"),
    [
        ([begins(0)], HOLDS, "no proof yet for r"),
        ([], HOLDS, "no recording is known"),
        ([begins(0)], OBSERVES, "the rule only observes"),
        ([begins(0)], KEEPS, "the rule says keep"),
        ([begins(0), SENT, ends(21)], HOLDS, "every recording is proven over"),
        ([begins(0, trunk=True)], HOLDS, "a trunk recording cannot be stopped"),
    ],
)
def test_it_says_why(events, rules, why):
    assert answer(*events, rules=rules).why.startswith(why)


def test_a_recording_that_is_about_to_go_on_counts_as_running_where_the_hand_off_ends_nothing():
    paused = [begins(0), ours(Kind.PAUSE_ORDERED, 5), ends(6)]
    resume = ours(Kind.RESUME_ORDERED, 18)
    assert answer(*paused, rules=KEEPS).proven
    assert not answer(*paused, resume, rules=KEEPS).proven


def test_only_a_proven_verdict_names_its_evidence():
    assert answer(begins(0), SENT).evidence == ()
    assert answer(begins(0), SENT, ends(21)).evidence == ("callback",)


@pytest.mark.parametrize(
    ("what", "events", "concerned"),
    [
        ("what ran", [begins(0), begins(1, "s"), ends(10, "s")], ["r"]),
        ("where nothing ran, what was over", [ends(10)], ["r"]),
        ("where nothing is known, the unseen one", [], [""]),
        ("and beside a start without an answer", [begins(0), *start()], ["r", ""]),
        ("not what begins later", [begins(0), begins(40, "s")], ["r"]),
        ("not what ended before and is learned of later", [ends(40, ended_at=at(10))], [""]),
    ],
)
def test_what_a_hand_off_is_about(what, events, concerned):
    call = call_of(*events, asked(20))
    act = act_of(acts(call, RULES), call.handoffs["h1"])
    assert [r.recording_id for r in concerning(call, act)] == concerned, what


@pytest.mark.parametrize(
    ("events", "sent"),
    [
        ([begins(0)], False),
        ([begins(0), SENT], True),
        ([begins(0), stopped(Kind.STOP_ACCEPTED, 19)], False),
        ([event(Kind.CALL_ENDED, 10)], True),
        ([begins(0), begins(40, "s")], True),  # it will not be: it would end what began later
    ],
)
def test_whether_the_whole_call_was_stopped_since_the_question(events, sent):
    call = call_of(*events, asked(20))
    assert was_sent(call, act_of(acts(call, RULES), call.handoffs["h1"])) is sent


def test_a_transfer_leaves_at_once_where_it_may_and_without_proof_just_before_the_wait_ends():
    body = {"legs": "aleg"}
    for rules, events, seconds, goes in [
        (HOLDS, [begins(0), SENT, ends(21)], 21, True),
        (HOLDS, [begins(0), SENT], 22.9, False),
        (GOES, [begins(0), SENT], 22.7, False),
        (GOES, [begins(0), SENT], 22.75, True),
        (GOES, [begins(0), SENT], 23.1, False),  # the asker is gone
        (KEEPS, [begins(0)], 24.9, True),  # it waits for no proof, so it has 5 s
        (KEEPS, [begins(0)], 25.1, False),
    ]:
        call = call_of(*events, asked(20, body=body))
        handoff = call.handoffs["h1"]
        assert may_go(handoff, verdict(call, rules, handoff), at(seconds)) is goes, (rules, seconds)


def test_a_question_is_planned_again_when_its_transfer_may_leave_and_when_the_web_process_is_gone():
    for body, expected in [(None, (at(24),)), ({"legs": "aleg"}, (at(22.75), at(24)))]:
        call = call_of(begins(0), asked(20, body=body))
        handoff = call.handoffs["h1"]
        found = verdict(call, HOLDS, handoff)
        assert (send_by(handoff, found), moments(handoff, found)) == (at(23), expected)


@pytest.mark.parametrize(("rules", "word"), [(HOLDS, "hold"), (GOES, "go")], ids=["holds", "goes"])
def test_a_question_whose_web_process_is_gone_is_decided_by_the_worker(rules, word):
    call = call_of(begins(0), SENT, asked(20))
    undecided = [(h, verdict(call, rules, h)) for h in call.handoffs.values()]
    assert list(left_open(call, undecided, at(23.9))) == []
    (decision,) = left_open(call, undecided, at(24))
    assert (decision.verdict, decision.by, decision.proven) == (word, "us", False)


def test_all_decisions_of_one_hand_off_have_one_id_so_the_first_one_counts():
    call = call_of(begins(0), asked(20))
    handoff = call.handoffs["h1"]
    found = verdict(call, HOLDS, handoff)
    ids = {decided(call, handoff, found, go=go, by=by).id for go in (True, False) for by in "ab"}
    assert ids == {"decided.h1"}
