"""A worker whose days the tests fill: what was filed and done on each, and closing them."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from tests.archive.builders import receipt_of
from tests.builders import obligation
from tests.constants import ACCOUNT, ENV
from worker.archive import days, signers
from worker.calls.history import Deed, Entry
from worker.calls.obligations import Duty
from worker.duties import days as duty
from worker.ledger.codec import to_ms
from worker.ledger.daybook import end_of, written
from worker.processes.composition import make_worker
from worker.settings import Settings


class House:
    """A worker whose service began on FIRST; the tests say what was filed and done on which day."""

    def __init__(self, ledger, folder, **given):
        env = {
            **ENV,
            "REDIS_URL": "redis://127.0.0.1:1",
            "ENDTAPE_ARCHIVE": str(folder / "archive"),
            "ENDTAPE_SPOOL": str(folder / "spool"),
            "ENDTAPE_CATALOG": f"sqlite:///{folder / 'catalog.db'}",
            "ENDTAPE_SIGNING_KEY": str(folder / "key"),
            **given,
        }
        self.ledger, self.folder = ledger, folder
        self.settings = Settings.from_env(env, folder=folder)
        self.worker = make_worker(
            self.settings, ledger, ThreadPoolExecutor(2), first_start=ledger.now()
        )
        self.root = folder / "archive" / ACCOUNT
        self.today = ledger.now().date()

    def begins(self, day):
        self.ledger.command("HSET", self.ledger.key("days", ACCOUNT), "first", day.isoformat())

    def files(self, day, name, hour=12):
        """A recording that is archived on that day, with its audio."""
        content, archive = f"audio {name}".encode(), self.worker.archive
        key = f"{ACCOUNT}/{day:%Y/%m/%d}/{name}.mp3"
        at = end_of(day) - timedelta(hours=24 - hour)
        part = archive.spool.create("part", abs(hash(key)))
        with archive.spool.writing(part) as file:
            file.write(content)
        sha = hashlib.sha256(content).hexdigest()
        archive.publish(part, key, sha)
        fetch = {"fetch": {"attempts": 1, "fetched_at": at.isoformat().replace("+00:00", "Z")}}
        receipt = archive.publish_receipt(key, receipt_of(key, content) | fetch)
        for line in (days.line_of(key, sha), days.line_of(f"{key[:-4]}.json", receipt)):
            self.ledger.command("ZADD", self.ledger.key("filed", ACCOUNT), to_ms(at), line)

    def does(self, day, what=Deed.STOP, **facts):
        entry = Entry(
            what=what, **{"who": "api", "call_uuid": "c-1", "recording_id": "r-1", **facts}
        )
        at = to_ms(end_of(day) - timedelta(hours=11))
        self.ledger.command(
            "XADD", self.ledger.key("history", ACCOUNT), f"{at}-*", "entry", written(entry)
        )

    def close(self, worker=None):
        """Every day that is over, as the clock and a worker close them. Returns when the next is
        due."""
        owed = obligation(Duty.DAY, duty.DAYS)
        for _ in range(20):
            self.ledger.ensure_due([owed])
            self.ledger.make_due_now(owed)
            claimed = self.ledger.claim(lead=timedelta(seconds=1), batch=1, free={Duty.DAY: 1})
            duty.closes(worker or self.worker, claimed.claims)
            if (due := self.ledger.next_at(owed)) and due > self.ledger.now():
                return due
        raise AssertionError("it does not come to an end")

    def day(self, day):
        return json.loads((self.root / days.day_name(day)).read_text())

    def files_of(self, *folders):
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in folders
            for path in sorted((self.root / folder).glob("*"))
        }

    def allowed_signers(self):
        place = self.folder / "allowed_signers"
        place.write_text(signers.written(signers.of_service(self.ledger.signing_keys())))
        return place

    def yesterdays(self, count):
        """So many days before today, in order; the service began on the first of them."""
        found = [self.today - timedelta(days=n) for n in range(count, 0, -1)]
        self.begins(found[0])
        return found
