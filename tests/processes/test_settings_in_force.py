"""The worker of a process, and the reloads that it has seen."""

from types import SimpleNamespace

from worker.in_force import InForce
from worker.processes import settings_in_force
from worker.processes.settings_in_force import FollowingWorker


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
    following = FollowingWorker(SimpleNamespace(redis_url=""))
    following.in_force = Overtaken(following.in_force.settings, generation=5)
    worker = following.current()
    assert (worker.settings == "new", worker.generation) == (False, 5)
