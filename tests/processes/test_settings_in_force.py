"""The worker of a process, and the reloads that it has seen."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.constants import ENV
from worker.in_force import InForce
from worker.processes import settings_in_force
from worker.processes.settings_in_force import FollowingWorker
from worker.settings import Settings


def test_a_worker_never_claims_a_reload_that_another_thread_saw_after_its_settings(monkeypatch):
    class Overtaken(InForce):
        def follow(self, generation):
            old, self.generation = self.settings, generation
            self.settings, self.generation = "new", generation + 1  # the thread that follows
            return old

    monkeypatch.setattr(settings_in_force, "connect", lambda _: None)
    ledger = SimpleNamespace(prepare=lambda: None, generation=lambda: 5)
    monkeypatch.setattr(settings_in_force, "Ledger", lambda _: ledger)
    monkeypatch.setattr(
        FollowingWorker,
        "_made_with",
        lambda _, settings: SimpleNamespace(settings=settings, generation=None),
    )
    following = FollowingWorker(SimpleNamespace(redis_url="", catalog="sqlite://"))
    following.in_force = Overtaken(following.in_force.settings, generation=5)
    worker = following.current()
    assert (worker.settings == "new", worker.generation) == (False, 5)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_a_reload_opens_no_second_catalogue(ledger, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {**ENV, "REDIS_URL": "redis://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings_in_force, "Ledger", lambda _: ledger)
    following = FollowingWorker(Settings.from_env())
    before = following.current()
    before.catalogue.count()
    (tmp_path / ".env").write_text("ENDTAPE_STOP_RATE=7\n")
    ledger.reload()
    after = following.current()
    after.catalogue.count()
    assert (before.settings.stop_rate, after.settings.stop_rate) == (50, 7)
    assert times_open(tmp_path / "data" / "catalog.db") == 1


def times_open(file):
    return sum(place.exists() and place.samefile(file) for place in Path("/proc/self/fd").iterdir())
