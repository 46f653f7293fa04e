"""A day with each kind of irregularity: all are found, and none is invented."""

from datetime import timedelta

import pytest

from tests.calls.builders import MINUTE, T0, at
from worker.calls.completeness import FIGURES, GAPS, AnsweredCall, rows_of, totals
from worker.calls.figure_words import MEANINGS, NOT_VERIFIED, meaning
from worker.calls.rules import Action, Expect, Match, Mode, Rule, Rules, Terms
from worker.calls.views import rfc3339

NOW = T0 + timedelta(hours=5)
DAY = Terms(max_duration=5 * MINUTE, on={"transfer": Action.STOP})
RULES = Rules(
    rules=(
        Rule(name="every", match=Match(to_number="9180*"), terms=Terms(expect=Expect.EVERY)),
        Rule(name="none", match=Match(to_number="9181*"), terms=Terms(expect=Expect.NONE)),
        Rule(name="observe", match=Match(to_number="9182*"), terms=Terms(mode=Mode.OBSERVE)),
        Rule(name="agree", match=Match(to_number="9183*"), terms=Terms(consent_required=True)),
    ),
    defaults=DAY,
)


def recording(name="r", rule="defaults", *, began=0, lasted=200.0, call=None, stop=None, **facts):
    """A recording that a deadline stopped and that came home, as `/v1` shows it."""
    due = rfc3339(at(began + (lasted or 0)))
    told = {"state": "confirmed", "trigger": "max_duration", "rule": rule, "due_at": due}
    return {
        "recording_id": name,
        "account": "MA_1",
        "call_uuid": call or f"call-{name}",
        "phase": "archived",
        "labels": {},
        "started_at": rfc3339(at(began)),
        "ended_at": None if lasted is None else rfc3339(at(began + lasted)),
        "duration_ms": None if lasted is None else round(lasted * 1000),
        "segment_of": None,
        "from": "919820055512",
        "to": None,
        "direction": "inbound",
        "consent": None,
        "restricted": False,
        "restricted_by": [],
        "problem": None,
        "fault": None,
        "stop": {**told, "attempts": 1, "tail_ms": 10, **(stop or {})},
        **facts,
    }


BY_ITSELF = {"state": "none", "trigger": None, "due_at": None, "attempts": 0, "tail_ms": None}
HUNG_UP = {**BY_ITSELF, "trigger": "hangup"}
NO_END = {"state": "unknown", "tail_ms": None}


def call(uuid, *, ended=200.0, to="918000", **facts):
    return AnsweredCall(account="MA_1", call_uuid=uuid, ended_at=at(ended), to_number=to, **facts)


def found(views=(), calls=(), **how):
    """Figure → ids, of all rows; without those in which everything is as it should be."""
    rows = rows_of(list(views), list(calls), RULES, NOW, **how)
    usual = {"expected", "archived", "verified"}
    return {
        name: sorted(ids)
        for name in FIGURES
        if name not in usual
        and (ids := {i for r in rows for i in r.figures[name].recordings | r.figures[name].calls})
    }


def why(views, calls=()):
    """Why each recording and call that is unexplained is so, of all rows."""
    rows = rows_of(list(views), list(calls), RULES, NOW)
    return {one: says for r in rows for one, says in r.view()["unexplained"]["why"].items()}


CLEAN = {
    "stopped": recording(),
    "hung up after exactly a minute": recording(lasted=60.0, stop=HUNG_UP),
    "stopped after a minute": recording(lasted=60.0),
    "ended at its deadline by itself": recording(lasted=60.0, stop={"state": "already_over"}),
    "runs": recording(lasted=None, phase="recording", stop={**BY_ITSELF, "due_at": None}),
    "wanted by its rule": recording(rule="every"),
}


@pytest.mark.parametrize("view", CLEAN.values(), ids=CLEAN.keys())
def test_what_is_as_it_should_be_is_in_no_figure_of_irregularities(view):
    assert found([view]).keys() <= {"under_way"}


ODD = {
    "missing": recording(phase="abandoned", fault="provider", problem="404"),
    "unexpected": recording(rule="none"),
    "over_long": recording(stop={"tail_ms": 10_001}),
    "too_short": recording(lasted=0.4, stop=HUNG_UP),
    "unproven": recording(stop=NO_END),
    "cut_at_default_limit": recording(lasted=60.02, stop=BY_ITSELF),
}


@pytest.mark.parametrize("name", ODD)
def test_each_irregularity_is_found_and_no_other_and_is_unexplained_with_its_name(name):
    assert found([ODD[name]]) == {name: ["r"], "unexplained": ["r"]}
    assert why([ODD[name]]) == {"r": [name]}


@pytest.mark.parametrize("trigger", ["max_duration", "transfer.blind", "api"])
def test_a_stop_of_ours_explains_a_recording_of_some_milliseconds(trigger):
    assert found([recording(lasted=0.073, stop={"trigger": trigger})]) == {}
    late = recording(lasted=0.073, stop={"trigger": trigger, "state": "already_over"})
    assert why([late]) == {"r": ["too_short"]}


GOVERNED = {
    "erased": {"phase": "erased"},
    "restricted": {"restricted": True, "restricted_by": ["long_tail"]},
    "with_gaps": {"segment_of": "first"},
    "under_way": {"phase": "fetching"},
}


@pytest.mark.parametrize("name", GOVERNED)
def test_what_the_rules_or_a_person_wanted_is_counted_and_explained(name):
    assert found([recording(**GOVERNED[name])]) == {name: ["r"]}


def test_a_whole_day_finds_every_irregularity_and_counts_each_recording_once():
    kinds = {**ODD, **{name: recording(**more) for name, more in GOVERNED.items()}}
    views = [{**view, "recording_id": name, "call_uuid": name} for name, view in kinds.items()]
    views += [
        {**v, "recording_id": f"fine-{n}", "call_uuid": f"c-{n}"}
        for n, v in enumerate(CLEAN.values())
    ]
    rows = rows_of(views, [call("lost")], RULES, NOW)
    every = totals(rows)
    assert found(views, [call("lost")]) == {
        **{name: [name] for name in kinds},
        "missing": ["lost", "missing"],
        "under_way": ["fine-4", "under_way"],
        "unexplained": sorted([*ODD, "lost"]),
    }
    assert every["expected"] == len(views) + 1 - 1  # the lost call is, the unexpected is not
    home = every["archived"] + every["erased"] + every["under_way"] + every["missing"]
    assert home == every["expected"] + every["unexpected"]


def test_an_archived_recording_that_failed_a_check_is_not_verified_and_unexplained():
    (row,) = rows_of([recording(problem="archived although length failed: x")], [], RULES, NOW)
    assert row.figures["archived"].count == 1
    assert row.figures["verified"].count == 0
    assert row.figures["unexplained"].recordings == {"r"}
    assert row.view()["unexplained"]["why"] == {"r": ["not_verified"]}


def test_less_audio_than_the_provider_announced_is_too_short():
    view = recording(problem="archived although duration failed: 3.00 s of audio are there")
    assert found([view]) == {"too_short": ["r"], "unexplained": ["r"]}


def test_a_rule_that_only_observes_explains_what_went_on_too_long():
    stop = {"state": "due", "attempts": 0, "tail_ms": 60_000}
    assert found([recording(rule="observe", stop=stop)]) == {"over_long": ["r"]}


def test_a_deadline_that_passed_before_somebody_stopped_it_makes_it_over_long():
    stop = {"trigger": "api", "due_at": rfc3339(at(64)), "tail_ms": 200}
    late = recording(lasted=64.2, stop={**stop, "overdue_since": rfc3339(at(10))})
    little = recording(lasted=64.2, stop={**stop, "overdue_since": rfc3339(at(63))})
    assert found([late]) == {"over_long": ["r"], "unexplained": ["r"]}
    assert found([little]) == {}


def test_what_still_runs_past_its_deadline_and_tail_is_over_long():
    stop = {"state": "accepted", "due_at": rfc3339(NOW - MINUTE), "tail_ms": None}
    view = recording(lasted=None, phase="stopping", stop=stop)
    assert found([view]) == {"under_way": ["r"], "over_long": ["r"], "unexplained": ["r"]}


def test_what_counts_as_running_for_longer_than_any_call_is_unproven():
    view = recording(lasted=None, phase="recording", stop=BY_ITSELF, began=-25 * 3600)
    assert found([view])["unproven"] == ["r"]


# Calls of the provider's records
# --------------------------------------------------------------------------------------------------


def test_an_answered_call_that_its_rule_wants_recorded_and_is_not_is_missing():
    lost = [call("lost"), call("other", to="917777")]
    assert found([], lost) == {"missing": ["lost"], "unexplained": ["lost"]}
    assert why([], lost) == {"lost": ["missing"]}


def test_a_call_is_not_missing_where_its_other_leg_or_another_day_has_the_recording():
    views = [recording(rule="every", call="a-leg", stop=HUNG_UP)]
    calls = [call("a-leg"), call("b-leg", bridge="a-leg"), call("late")]
    assert found(views, calls, recorded=frozenset({"late"})) == {}


def test_a_rule_that_watches_its_calls_wants_each_recorded():
    rules = Rules(defaults=Terms(watch=True))
    assert totals(rows_of([], [call("lost")], rules, NOW))["missing"] == 1
    assert rules.expects_every
    assert not Rules(defaults=Terms(watch=True, expect=Expect.ANY)).expects_every


def test_a_second_recording_that_runs_beside_the_first_is_unexpected():
    first = recording("r1", "every", call="c", lasted=100)
    beside = recording("r2", "every", call="c", began=50, lasted=50)
    after = recording("r3", "every", call="c", began=100, lasted=50)
    assert found([first, beside, after])["unexpected"] == ["r2"]
    endless = recording("r0", "every", call="c", lasted=None, stop=NO_END, phase="fetching")
    assert found([endless, first, beside])["unexpected"] == ["r2"]
    others = [{**v, "stop": {**v["stop"], "rule": "defaults"}} for v in (first, beside)]
    assert found(others) == {}


def test_a_recording_that_ends_by_itself_well_before_its_call_is_too_short():
    view = recording(rule="every", call="c", lasted=30, stop=BY_ITSELF)
    assert found([view], [call("c", ended=200)])["too_short"] == ["r"]
    assert found([view], [call("c", ended=31)]) == {}
    assert found([{**view, "stop": {**view["stop"], "rule": "defaults"}}], [call("c")]) == {}


def test_the_end_of_the_call_explains_a_minute_even_where_no_hangup_reached_us():
    view = recording(rule="every", call="c", lasted=60, stop=BY_ITSELF)
    assert found([view], [call("c", ended=61)]) == {}
    assert found([view], [call("c", ended=300)])["cut_at_default_limit"] == ["r"]


def test_the_consent_capture_rate_is_of_the_recordings_that_needed_consent():
    said = {"kind": "spoken", "withdrawn": False}
    views = [recording(f"r{n}", "agree", consent=said) for n in range(3)]
    views += [
        recording("r3", "agree", restricted=True, restricted_by=["no_consent"]),
        recording("r4", "defaults", consent=said),
    ]
    rates = {row.rule: row.consent_capture_rate for row in rows_of(views, [], RULES, NOW)}
    assert rates == {"agree": 0.75, "defaults": None}
    assert found(views) == {"without_consent": ["r3"], "restricted": ["r3"]}


def test_a_recording_whose_rule_nobody_noted_goes_to_the_rule_that_matches():
    view = recording(stop={"rule": None}, to="918012")
    assert [row.rule for row in rows_of([view], [], RULES, NOW)] == ["every"]


def test_each_figure_and_each_reason_has_words():
    assert set(MEANINGS) == set(FIGURES)
    assert all(map(meaning, [*GAPS, NOT_VERIFIED]))
