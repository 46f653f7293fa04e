"""Which stops of a batch may still leave."""

from types import SimpleNamespace

from tests.constants import ACCOUNT
from worker.duties import send_stops
from worker.ledger.client import Ledger
from worker.ledger.store import connect


def work(call_uuid):
    call = SimpleNamespace(account=ACCOUNT, call_uuid=call_uuid)
    return SimpleNamespace(call=call, loaded=SimpleNamespace(size=0), broken=False, retry_at=None)


def test_while_redis_does_not_answer_only_stops_that_name_their_recording_leave():
    away = Ledger(connect("redis://127.0.0.1:1", timeout_s=0.1))
    batch = SimpleNamespace(worker=SimpleNamespace(ledger=away))
    whole = (work("c1"), SimpleNamespace(url=None))
    named = (work("c2"), SimpleNamespace(url="https://media.vobiz.ai/r2.mp3"))
    assert send_stops._still_right(batch, [whole, named]) == [named]
    assert (whole[0].broken, named[0].broken) == (True, False)
