"""All that the model takes from the code it judges. Where a module of ours moves, this file changes
and no other."""

from webhooks import callbacks
from worker import lifecycle, policy, views
from worker.abandoned import is_lost, rarely, says_nothing_new
from worker.clock import LEAD
from worker.codec import decode, encode, to_ms
from worker.fold import fold, is_end
from worker.handoffs import UNSEEN, decided, found_live, send_by, unseen, verdict
from worker.ledger import REPEAT_AFTER, may_happen_again
from worker.orders import ceiling_s
from worker.policy import Action, DailyTime, Match, Mode, Policy, Rule, Terms
from worker.recording import Event, Fault, Kind, StopState
from worker.segments import is_paused, unsettled
from worker.stops import HORIZON, MOST_ERRORS_TOLD
from worker.triggers import acts

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
    "Policy",
    "Rule",
    "StopState",
    "Terms",
    "acts",
    "callbacks",
    "ceiling_s",
    "decided",
    "decode",
    "encode",
    "fold",
    "found_live",
    "is_end",
    "is_lost",
    "is_paused",
    "lifecycle",
    "may_happen_again",
    "policy",
    "rarely",
    "says_nothing_new",
    "send_by",
    "to_ms",
    "unseen",
    "unsettled",
    "verdict",
    "views",
]
