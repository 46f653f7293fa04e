"""All that the model takes from the code it judges. Where a module of ours moves, this file changes
and no other."""

from worker.calls import planner, stop_state, timing, views
from worker.calls.call import StopState
from worker.calls.events import Event, Fault, Kind
from worker.calls.fetch_times import is_lost, rarely, says_nothing_new
from worker.calls.handoffs import decided, send_by, verdict
from worker.calls.replay import replay
from worker.calls.rules import Action, DailyTime, Match, Mode, Rule, Rules, Terms
from worker.calls.segments import is_paused
from worker.calls.starts import ceiling_s, unsettled
from worker.calls.stop_requests import errors_in_a_row
from worker.calls.triggers import acts
from worker.calls.trust import is_end
from worker.calls.unseen import UNSEEN, found_live, unseen
from worker.duties.batch import HORIZON
from worker.duties.send_stops import MOST_ERRORS_TOLD
from worker.ledger.codec import decode, encode, to_ms
from worker.ledger.recording import REPEAT_AFTER, may_happen_again
from worker.processes.batches import LEAD
from worker.vobiz import callback_fields, callbacks

__all__ = [
    "HORIZON",
    "LEAD",
    "MOST_ERRORS_TOLD",
    "REPEAT_AFTER",
    "UNSEEN",
    "Action",
    "DailyTime",
    "Event",
    "Fault",
    "Kind",
    "Match",
    "Mode",
    "Rule",
    "Rules",
    "StopState",
    "Terms",
    "acts",
    "callback_fields",
    "callbacks",
    "ceiling_s",
    "decided",
    "decode",
    "encode",
    "errors_in_a_row",
    "found_live",
    "is_end",
    "is_lost",
    "is_paused",
    "may_happen_again",
    "planner",
    "rarely",
    "replay",
    "says_nothing_new",
    "send_by",
    "stop_state",
    "timing",
    "to_ms",
    "unseen",
    "unsettled",
    "verdict",
    "views",
]
