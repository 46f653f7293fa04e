"""`endtape explain`: which rule applies to a call, why not the others, and what each event makes of
it. Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from worker.calls import planner
from worker.calls.call import Call
from worker.calls.rules import DailyTime, Rules, Terms
from worker.calls.triggers import acts
from worker.calls.views import rfc3339, stop_view


def explain(
    call: Call, rules: Rules, now: datetime, *, trigger: str | None = None
) -> dict[str, Any]:
    """The rules in their order with their verdicts, the terms that hold, and what they mean for
    this call; for `trigger` if one is named.
    """
    chosen, terms = rules.choose(call)
    tried = []
    for rule in rules.rules:
        misfit = rule.match.misfit(call)
        tried.append(
            {"rule": rule.name, "fits": misfit is None, "why": misfit or "every field fits"}
        )
        if misfit is None:
            break
    if chosen == "defaults":
        tried.append(
            {
                "rule": "defaults",
                "fits": True,
                "why": "no rule fits"
                if rules.rules
                else "there are no rules"
                if rules.from_file
                else "there is no rules file",
            }
        )
    return {
        "call_uuid": call.call_uuid,
        "account": call.account,
        "from": call.from_number,
        "to": call.to_number,
        "direction": call.direction,
        "labels": call.labels,
        "rule": chosen,
        "tried": tried,
        "terms": terms_view(terms),
        "trigger": {
            "trigger": trigger,
            "action": terms.action(trigger).value,
            "handoff": terms.action(trigger, asked=True).value,
        }
        if trigger
        else None,
        "events": [
            {
                "at": rfc3339(a.at),
                "event": a.event.kind.value,
                "trigger": a.trigger,
                "action": a.action.value,
                "enforced": a.enforced,
            }
            for a in acts(call, rules)
        ],
        "recordings": [
            {
                "recording_id": r.recording_id,
                "stop": stop_view(planner.judge(call, r, rules, now)),
            }
            for r in call.recordings.values()
        ],
    }


def terms_view(terms: Terms) -> dict[str, Any]:
    """As the rules file would spell them."""
    return {
        "mode": terms.mode.value,
        "max_duration": f"{terms.max_duration.total_seconds():g}s"
        if terms.max_duration
        else "none",
        "stop_at": [_daily(d) for d in terms.stop_at],
        "confirm_within": f"{terms.confirm_within.total_seconds():g}s",
        "stop_tries": terms.stop_tries,
        "if_unproven": terms.if_unproven,
        "watch": terms.watch,
        "on": {k: a.value for k, a in terms.on.items()},
    }


def _daily(daily: DailyTime) -> str:
    return f"{daily.at.isoformat()} {daily.zone.key}"
