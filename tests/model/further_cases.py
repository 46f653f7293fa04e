"""More smallest sequences: legs of one dial, 404s that are early or wrong, a provider with other
habits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.model.cases import ON, Log, paused, t
from tests.model.ours import Kind, Mode, Rules, Terms, callbacks


def _dialled(*told: tuple[float, str, dict]) -> Log:
    """R1 is ended by a transfer at 10; then callbacks about the legs of one dial."""
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.CALL_TRANSFERRED)
    log.stop(10.05)
    log.end(10.2, "R1", 0, 10.1)
    for at, event, more in told:
        fields = {"event": event, "calluuid": "c", "dialaleguuid": "c", **more}
        log.record(at, replace(callbacks.parse(fields), signed=True))
    return log


_LOST, _NAMELESS = (
    {"dialblegduration": "0", "dialbleghangupcausecode": "9000"},
    {"dialblegduration": "0"},
)


def case_16a_a_leg_that_lost_the_race_resumes_nothing_told_after() -> bool:
    return all(
        not _dialled(
            (15, "DialConnected", {"dialbleguuid": "b2"}),
            (15.4, "DialHangup", {"dialbleguuid": "b1", **how}),
        )
        .settle(18)
        .starts
        for how in (_LOST, _NAMELESS)
    )


def case_16b_a_leg_that_lost_the_race_resumes_nothing_told_before() -> bool:
    return all(
        not _dialled(
            (15, "DialHangup", {"dialbleguuid": "b1", **how}),
            (15.4, "DialConnected", {"dialbleguuid": "b2"}),
        )
        .settle(18)
        .starts
        for how in (_LOST, _NAMELESS)
    )


def case_16c_a_dial_failed_when_all_its_legs_did() -> bool:
    log = _dialled(
        (15, "DialHangup", {"dialbleguuid": "b1", **_NAMELESS}),
        (15.4, "DialHangup", {"dialbleguuid": "b2", **_NAMELESS}),
    )
    return bool(log.settle(18).starts)


def case_17a_a_404_while_the_call_rings_says_nothing_of_what_begins_later() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.ask(5)
    log.stop(5.05, Kind.CALL_FOUND_OVER)
    log.add(15, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    return not log.call().recordings["R1"].over_at and bool(log.settle(15 + 3600).sends)


def case_17b_a_signed_sign_of_life_takes_a_404_back() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(10, Kind.STOP_ORDERED)
    log.stop(10.05, Kind.CALL_FOUND_OVER)
    log.add(12, Kind.DIAL_CONNECTED, b_leg="b", signed=True)
    return not log.call().recordings["R1"].over_at


def case_18_a_404_to_a_stop_that_names_a_recording_proves_nothing_and_makes_us_look() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="a", url="u/a")
    log.add(0, Kind.RECORDING_STARTED, recording_id="b", url="u/b")
    log.add(10, Kind.STOP_ORDERED, recording_id="a")
    log.stop(10.05, Kind.CALL_FOUND_OVER)
    look_at = log.plan(10.1).look_at
    return (
        all(not r.over_at for r in log.call().recordings.values())
        and look_at is not None
        and look_at <= t(10.2)
    )


def case_19_where_a_name_does_not_help_the_whole_call_is_stopped_once_nothing_else_runs() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="a", url="u/a")
    log.add(0, Kind.RECORDING_STARTED, recording_id="b", url="u/b")
    log.add(10, Kind.STOP_ORDERED, recording_id="a")
    urls, at = [], 10.05
    for _ in range(4):
        urls += [s.url for s in log.stop(at)]
        log.add(at + 10.2, Kind.LOOKED, live=True)
        at += 10.5
        if len(urls) == 2:
            log.end(at - 0.1, "b", 0, at - 0.2)
    return urls[:2] == ["u/a", "u/a"] and urls[-1] is None


def case_20_a_stop_for_a_call_that_nobody_reported_is_not_repeated_and_raises_no_alert() -> bool:
    log = Log()
    log.add(0, Kind.STOP_ORDERED)
    sent = len(log.stop(0.05, Kind.CALL_FOUND_OVER))
    later = [log.settle(at) for at in (1, 12, 60, 4000)]
    return (
        sent == 1
        and not any(plan.sends for plan in later)
        and not any(e.kind is Kind.STOP_UNKNOWN for e in log.events)
    )


def case_21_a_stop_by_id_ends_what_a_resume_that_was_under_way_started() -> bool:
    log = paused()
    log.add(20, Kind.RESUME_ORDERED)
    order = log.settle(20).starts[0].ordered.order
    log.add(20.01, Kind.START_SENT, order=order)
    log.add(20.5, Kind.STOP_ORDERED, recording_id="R1")
    log.add(21, Kind.START_ACCEPTED, order=order, recording_id="R2", url="u/R2")
    return any("R2" in s.recording_ids for s in log.settle(21.1).sends)


def case_22_a_recording_that_began_after_a_404_takes_it_back() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.ask(5)
    log.stop(5.05, Kind.CALL_FOUND_OVER)
    over = log.call().over_at is not None
    log.add(
        40,
        Kind.RECORDING_LISTED,
        recording_id="R1",
        url="u/R1",
        started_at=t(15),
        ended_at=t(30),
        duration_s=15.0,
    )
    return over and log.call().over_at is None


def case_23_a_resumption_that_is_still_owed_counts_as_running() -> bool:
    log = paused()
    log.rules = Rules(defaults=Terms(mode=Mode.OBSERVE, on=ON))
    log.add(20, Kind.RESUME_ORDERED)  # nobody has planned it yet
    log.ask(21)
    return not log.proven()


def case_25_a_row_of_a_recording_that_began_after_a_404_takes_it_back_though_it_runs() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.ask(5)
    log.stop(5.05, Kind.CALL_FOUND_OVER)
    log.add(40, Kind.RECORDING_LISTED, recording_id="R1", url="u/R1", started_at=t(15))
    log.add(50, Kind.STOP_ORDERED)
    for at in (50.05, 61, 72, 83):
        log.stop(at)
    log.settle(95)  # unknown by now, and the call lives
    return log.call().over_at is None and bool(log.settle(145).sends)


def case_26_what_a_start_without_an_answer_began_stays_ours_when_an_application_announces_it() -> (
    bool
):
    log = Log()
    log.add(0, Kind.START_ORDERED, order="s")
    log.add(0, Kind.START_SENT, order="s")
    log.add(5, Kind.START_UNCLEAR, order="s")
    log.add(6, Kind.RECORDING_LISTED, recording_id="R1", url="u/R1", started_at=t(0.5))
    known = log.call().starts["s"].recording_id
    log.add(60, Kind.RECORDING_ANNOUNCED, recording_id="R1", url="u/R1", started_at=t(0.5))
    return known == log.call().starts["s"].recording_id == "R1"


def case_27_a_segment_of_a_segment_belongs_to_the_first_of_them() -> bool:
    log = Log()
    log.add(0, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    for n, (root, made) in enumerate((("R1", "R2"), ("R2", "R3"))):
        log.add(10 + n, Kind.START_ORDERED, order=f"s{n}", segment_of=root, due_at=t(10 + n))
        log.add(10 + n, Kind.START_SENT, order=f"s{n}")
        log.add(11 + n, Kind.START_ACCEPTED, order=f"s{n}", recording_id=made, url=f"u/{made}")
    return {r.root for r in log.call().recordings.values()} == {"R1"}


def case_28_what_was_to_go_on_before_a_proven_go_stays_ended_though_the_rules_change() -> bool:
    log = paused()
    log.add(20, Kind.RESUME_ORDERED)  # the planner stands still
    log.ask(22)
    log.add(22.1, Kind.HANDOFF_DECIDED, order="h", verdict="go", proven=True, by="api")
    log.rules = Rules(defaults=Terms(mode=Mode.OBSERVE, on=ON))
    return not log.settle(40).starts


def case_29_a_stop_for_all_that_was_answered_404_is_not_looked_after_for_a_day() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN, signed=False)
    log.add(5, Kind.STOP_ORDERED)
    log.stop(5.05, Kind.CALL_FOUND_OVER)
    log.add(20, Kind.RECORDING_STARTED, recording_id="R1", url="u/R1")
    log.add(30, Kind.STOP_ORDERED, recording_id="R1")
    log.stop(30.05, Kind.STOP_ERRED)
    log.end(31, "R1", 20, 30.5)
    return log.plan(60).look_at is None


def case_30_a_404_does_not_end_what_began_just_after_it_by_a_clock_that_is_off() -> bool:
    log = Log()
    log.add(0, Kind.CALL_SEEN)
    log.ask(6.9)
    log.stop(6.95, Kind.CALL_FOUND_OVER)
    log.add(
        37, Kind.RECORDING_LISTED, recording_id="R1", url="u/R1", started_at=t(5.5)
    )  # it began at 8.5
    return log.call().recordings["R1"].over_at is None


CASES: dict[str, Callable[[], bool]] = {
    name.removeprefix("case_"): case
    for name, case in list(globals().items())
    if name.startswith("case_")
}
