"""House rules: who may import whom, what stays pure, what the Procfile promises."""

import ast
import importlib
import os
import re
import shlex
import socket
from pathlib import Path

import pytest

from worker.app import QUEUES
from worker.recording import Duty
from worker.supervise import free_port, lines
from worker.tasks import route

ROOT = Path(__file__).resolve().parent.parent
PURE = [
    "worker/recording.py",
    "worker/policy.py",
    "worker/fold.py",
    "worker/lifecycle.py",
    "worker/triggers.py",
    "worker/segments.py",
    "worker/handoffs.py",
    "worker/looking.py",
    "worker/abandoned.py",
    "worker/views.py",
    "worker/rules.py",
    "worker/wire.py",
    "worker/errors.py",
    "worker/media.py",
    "worker/mpeg.py",
    "worker/wav.py",
    "worker/tags.py",
    "worker/pages.py",
    "webhooks/signature.py",
    "webhooks/callbacks.py",
]
IMPURE = {
    "redis",
    "requests",
    "celery",
    "flask",
    "os",
    "time",
    "random",
    "socket",
    "subprocess",
    "structlog",
}


def files(folder, at_least):
    """Every module of a package and of the packages in it. One that were not found would be held to
    nothing."""
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) >= at_least, f"{folder}: {len(found)} files"
    return found


WORKER, WEBHOOKS, EMULATOR = files("worker", 54), files("webhooks", 17), files("emulator", 18)


def named(path):
    return str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("name", PURE)
def test_pure_files_touch_nothing(name):
    assert {i.split(".")[0] for i in imports(ROOT / name)} & IMPURE == set()


# Imports point to an earlier line.
RANKS = [
    "worker.errors worker.recording worker.wire worker.addresses worker.redis_url worker.deadline worker.tags worker.pages worker.logs webhooks.signature worker.draining",
    "worker.mpeg worker.transport worker.partial",
    "worker.wav",
    "worker.sentinel worker.policy worker.fold worker.codec worker.media worker.answers worker.download worker.durable worker.embedded worker.supervise webhooks.callbacks",
    "worker.broker worker.triggers worker.rules worker.abandoned worker.receipts worker.board worker.vobiz worker.demo",
    "worker.segments worker.reading worker.archive worker.settings",
    "worker.handoffs",
    "worker.ledger",
    "worker.in_force worker.trials worker.guards worker.looking worker.backlog worker.reconcile worker.rounds webhooks.receiver webhooks.metrics webhooks.waiting webhooks.problems webhooks.guard",
    "worker.lifecycle webhooks.bodies",
    "worker.views worker.orders webhooks.shapes",
    "webhooks.orders webhooks.openapi",
    "webhooks.telling webhooks.handoff",
    "worker.stops worker.looks worker.fetch worker.app worker.service worker.explain webhooks.api webhooks.serving",
    "worker.survey",
    "worker.survey_now",
    "worker.tasks webhooks.app worker.commands worker.doctor",
    "worker.listing",
    "worker.clock worker.cli",
]
RANK = {module: i for i, line in enumerate(RANKS) for module in line.split()}
DOORS = {
    "worker.recording",
    "worker.triggers",
    "worker.segments",
    "worker.handoffs",
    "worker.looking",
    "worker.rules",
    "worker.errors",
    "worker.ledger",
    "worker.settings",
    "worker.vobiz",
    "worker.fold",
    "worker.views",
    "worker.wire",
    "worker.logs",
    "worker.guards",
    "worker.in_force",
}
OURS = [p for p in WORKER + WEBHOOKS if p.stem != "__init__"]


def our_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {
            "worker",
            "webhooks",
        }:
            if (ROOT / node.module.replace(".", "/")).is_dir():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.stem)
def test_imports_point_downwards_and_webhooks_enter_worker_through_few_doors(path):
    me = named(path)
    for other in our_imports(path):
        assert RANK[other] < RANK[me], f"{me} imports {other}"
        assert path in WORKER or other.startswith("webhooks.") or other in DOORS, (
            f"{me} imports {other}"
        )


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.stem)
def test_imports_stand_at_the_top_and_files_are_of_a_size_to_read(path):
    tree = ast.parse(path.read_text())
    hidden = [
        n.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for n in ast.walk(function)
        if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []
    assert len(path.read_text().splitlines()) <= 400
    assert not {"utils", "common", "core", "helpers"} & {path.stem}


def test_init_files_hold_a_docstring_and_nothing_else():
    found = [path for path in WORKER + WEBHOOKS + EMULATOR if path.stem == "__init__"]
    assert len(found) >= 3
    for path in found:
        assert len(ast.parse(path.read_text()).body) == 1, path


@pytest.mark.parametrize("path", EMULATOR, ids=lambda p: p.name)
def test_the_emulator_imports_nothing_of_ours(path):
    assert {i.split(".")[0] for i in imports(path)} & {"worker", "webhooks"} == set()


@pytest.mark.parametrize("path", WORKER, ids=lambda p: p.name)
def test_worker_never_imports_webhooks_or_flask(path):
    assert {i.split(".")[0] for i in imports(path)} & {"webhooks", "flask"} == set()


def test_the_web_process_never_imports_celery():
    for path in WEBHOOKS:
        assert not {
            i
            for i in imports(path)
            if i.startswith(("celery", "kombu", "worker.tasks", "worker.app", "worker.clock"))
        }


def test_the_procfile_says_what_an_installed_package_runs():
    read = {}
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        program, *arguments = shlex.split(command)
        assert program == ".venv/bin/python"
        read[name] = arguments
    assert read == {name: words[1:] for name, words in lines().items()}


def test_the_procfile_has_a_line_for_each_process_and_a_worker_for_each_queue():
    found = lines()
    assert set(found) == {"web", "stops", "fetches", "clock"}
    for queue in QUEUES:
        assert found[queue][found[queue].index("-Q") + 1] == queue
    for name in ("web", "clock"):
        importlib.import_module(found[name][-1])
    assert {route(duty) for duty in Duty} == set(QUEUES)


# What shows that a test starts a Redis by itself; the fixtures `redis_server` and `service` are
# marked by conftest.py.
STARTS = re.compile(
    r"\bEmbeddedRedis\(|\bfind_server\(|\bWatchedRedis\(|faults\.run|benchmarks/run\.py|\"demo\"|\"run\"\]"
)


def test_all_that_starts_a_redis_is_played_with_the_other_one_too():
    found = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if STARTS.search(path.read_text()) and path.name != "test_house.py"
    ]
    assert len(found) >= 7
    assert not [path.name for path in found if "mark.redis" not in path.read_text()]


@pytest.mark.xdist_group("together")
def test_what_is_meant_to_stay_together_is_given_to_one_process(request):
    # A release of pytest took the groups' effect away, and nothing but time showed it.
    assert request.node.nodeid.endswith("@together") is bool(os.environ.get("PYTEST_XDIST_WORKER"))


def test_a_free_port_is_given_to_nobody_else():
    # Servers that share one by chance do not notice, and each gets half of the other's requests.
    ports = [free_port() for _ in range(300)]
    assert len(set(ports)) == len(ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
