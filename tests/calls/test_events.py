"""The kinds of events, and the triggers that they raise."""

import pytest

from worker.calls.events import TRIGGERS, Event, Kind
from worker.calls.rules import Action, Terms
from worker.calls.terms_file import TRIGGER


def test_every_kind_is_written_as_its_name():
    for kind in Kind:
        assert kind.value == "".join(part.capitalize() for part in kind.name.split("_"))


@pytest.mark.parametrize("trigger", sorted(set(TRIGGERS.values())))
def test_a_trigger_is_a_key_of_the_rules_file_or_an_order_that_no_rule_can_change(trigger):
    never = Terms(on={trigger: Action.KEEP})
    is_order = never.action(trigger) is not Action.KEEP
    assert bool(TRIGGER.fullmatch(trigger)) is not is_order


def test_fields_that_do_not_apply_are_none_or_empty():
    event = Event(id="1", kind=Kind.LOOKED, call_uuid="c")
    given = {"id", "kind", "call_uuid", "signed", "recording_ids", "evidence", "restricted_by"}
    assert {n for n in Event.__dataclass_fields__ if getattr(event, n) is not None} == given
