"""`endtape explain`: which rule applies to a call, why the others do not, and what each event does.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from worker import wire
from worker.calls.call import Call
from worker.calls.rules import DailyTime, Rules, Terms
from worker.calls.stop_state import judge
from worker.calls.triggers import Act, acts
from worker.calls.views import rfc3339, stop_view


def explain(
    call: Call, rules: Rules, now: datetime, *, trigger: str | None = None
) -> dict[str, Any]:
    """The rules in their order with their verdicts, the terms that hold, and what they mean for
    this call; for `trigger` if one is named.
    """
    chosen, terms = rules.choose(call)
    return {
        "call_uuid": call.call_uuid,
        "account": call.account,
        "from": call.from_number,
        "to": call.to_number,
        "direction": call.direction,
        "labels": call.labels,
        "rule": chosen,
        "tried": _tried(call, rules),
        "terms": terms_view(terms),
        "trigger": _trigger_view(terms, trigger) if trigger else None,
        "events": [_act_view(a) for a in acts(call, rules)],
        "recordings": [
            {"recording_id": r.recording_id, "stop": stop_view(judge(call, r, rules, now))}
            for r in call.recordings.values()
        ],
    }


def imagined(
    *,
    account: str,
    from_number: str | None = None,
    to_number: str | None = None,
    direction: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Call:
    """A call that might be, of which these facts are known."""
    return Call(
        account=account,
        call_uuid="(none)",
        from_number=wire.digits(from_number),
        to_number=wire.digits(to_number),
        direction=direction,
        labels=dict(labels or {}),
    )


def _tried(call: Call, rules: Rules) -> list[dict[str, Any]]:
    """Each rule up to the one that fits, and why it fits or not. The defaults come last."""
    tried = []
    for rule in rules.rules:
        misfit = rule.match.misfit(call)
        tried.append(
            {"rule": rule.name, "fits": misfit is None, "why": misfit or "every field fits"}
        )
        if misfit is None:
            return tried
    if rules.rules:
        why = "no rule fits"
    else:
        why = "there are no rules" if rules.from_file else "there is no rules file"
    return [*tried, {"rule": "defaults", "fits": True, "why": why}]


def _trigger_view(terms: Terms, trigger: str) -> dict[str, Any]:
    return {
        "trigger": trigger,
        "action": terms.action(trigger).value,
        "handoff": terms.action(trigger, asked=True).value,
    }


def _act_view(act: Act) -> dict[str, Any]:
    return {
        "at": rfc3339(act.at),
        "event": act.event.kind.value,
        "trigger": act.trigger,
        "action": act.action.value,
        "enforced": act.enforced,
    }


def terms_view(terms: Terms) -> dict[str, Any]:
    """The terms as the rules file would spell them."""
    return {
        "mode": terms.mode.value,
        "max_duration": _seconds(terms.max_duration) or "none",
        "stop_at": [_daily(d) for d in terms.stop_at],
        "confirm_within": _seconds(terms.confirm_within),
        "stop_tries": terms.stop_tries,
        "if_unproven": terms.if_unproven,
        "watch": terms.watch,
        "consent": "required" if terms.consent_required else "ignored",
        "consent_within": _seconds(terms.consent_within),
        "tail_limit": _seconds(terms.tail_limit) or "none",
        "retain": _seconds(terms.retain) or "forever",
        "on": {k: a.value for k, a in terms.on.items()},
    }


def _seconds(duration: timedelta | None) -> str | None:
    """Without an exponent, which a file could not have: years are many seconds."""
    return f"{duration.total_seconds():.12g}s" if duration else None


def _daily(daily: DailyTime) -> str:
    return f"{daily.at.isoformat()} {daily.zone.key}"
