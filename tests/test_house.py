"""House rules: who may import whom, what stays pure, what the Procfile promises."""

import ast
import importlib
from pathlib import Path

import pytest

from worker.app import QUEUES
from worker.recording import Duty
from worker.supervise import lines
from worker.tasks import route

ROOT = Path(__file__).resolve().parent.parent
PURE = ["worker/recording.py", "worker/policy.py", "worker/fold.py", "worker/lifecycle.py", "worker/rules.py", "worker/wire.py",
        "worker/errors.py", "worker/media.py", "worker/mpeg.py", "webhooks/signature.py", "webhooks/callbacks.py"]
IMPURE = {"redis", "requests", "celery", "flask", "os", "time", "random", "socket", "subprocess", "structlog"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("name", PURE)
def test_pure_files_touch_nothing(name):
    assert {i.split(".")[0] for i in imports(ROOT / name)} & IMPURE == set()


@pytest.mark.parametrize("path", sorted((ROOT / "emulator").glob("*.py")), ids=lambda p: p.name)
def test_the_emulator_imports_nothing_of_ours(path):
    assert {i.split(".")[0] for i in imports(path)} & {"worker", "webhooks"} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "worker").glob("*.py")), ids=lambda p: p.name)
def test_worker_never_imports_webhooks_or_flask(path):
    assert {i.split(".")[0] for i in imports(path)} & {"webhooks", "flask"} == set()


def test_the_web_process_never_imports_celery():
    for path in (ROOT / "webhooks").glob("*.py"):
        assert not {i for i in imports(path) if i.startswith(("celery", "kombu", "worker.tasks", "worker.app", "worker.clock"))}


def test_the_procfile_has_a_line_for_each_process_and_a_worker_for_each_queue():
    found = lines()
    assert set(found) == {"web", "stops", "fetches", "clock"}
    for queue in QUEUES:
        assert found[queue][found[queue].index("-Q") + 1] == queue
    for name in ("web", "clock"):
        importlib.import_module(found[name][-1])
    assert {route(duty) for duty in Duty} == set(QUEUES)
