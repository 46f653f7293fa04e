"""House rules: who may import whom, what stays pure, what the Procfile promises."""

import ast
import importlib
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from worker.calls.obligations import Duty
from worker.processes.celery_app import QUEUES
from worker.processes.supervisor import free_port, process_commands
from worker.processes.tasks import route

ROOT = Path(__file__).resolve().parent.parent


def files(folder, at_least):
    """Every module of a package and of the packages in it. One that were not found would be held to
    nothing.
    """
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) >= at_least, f"{folder}: {len(found)} files"
    return found


WORKER, WEBHOOKS, EMULATOR = files("worker", 80), files("webhooks", 17), files("emulator", 18)


def test_every_room_imports_only_what_it_may():
    told = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-2000:]
    kept = re.search(r"Contracts: (\d+) kept, 0 broken", told.stdout)
    assert int(kept[1]) >= 8
    looked_at = re.search(r"Analyzed (\d+) files", told.stdout)
    assert int(looked_at[1]) >= len(WORKER + WEBHOOKS + EMULATOR)


def test_files_and_functions_are_of_a_size_to_read():
    for path in WORKER + WEBHOOKS + EMULATOR + files("faults", 15) + files("benchmarks", 12):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        assert not {"utils", "common", "core", "helpers"} & {path.stem}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= 50, f"{path}: {node.name} has {length} lines"


def test_few_files_lie_flat_in_worker_and_no_room_shares_its_name_with_one_in_it():
    assert len(list((ROOT / "worker").glob("*.py"))) <= 8
    rooms = [p.parent for p in WORKER + WEBHOOKS if p.stem == "__init__"]
    assert len(rooms) >= 11
    assert not [room for room in rooms if (room / f"{room.name}.py").exists()]


def test_init_files_hold_a_docstring_and_nothing_else():
    found = [path for path in WORKER + WEBHOOKS + EMULATOR if path.stem == "__init__"]
    assert len(found) >= 12
    for path in found:
        assert len(ast.parse(path.read_text()).body) == 1, path


def test_the_procfile_says_what_an_installed_package_runs():
    read = {}
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        program, *arguments = shlex.split(command)
        assert program == ".venv/bin/python"
        read[name] = arguments
    assert read == {name: words[1:] for name, words in process_commands().items()}


def test_the_procfile_has_a_line_for_each_process_and_a_worker_for_each_queue():
    found = process_commands()
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
