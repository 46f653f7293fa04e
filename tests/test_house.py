"""House rules: who may import whom, how large a file may be, and what documents say of files.

Every check that looks at files says how many it must find, so that none passes on nothing when files
move.
"""

import ast
import importlib
import os
import re
import shlex
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from worker.calls.obligations import Duty
from worker.ledger.obligations import LEASES
from worker.processes.celery_app import QUEUES
from worker.processes.clock import BATCH
from worker.processes.supervisor import free_port, process_commands
from worker.processes.tasks import DEEDS, QUEUE_OF

ROOT = Path(__file__).resolve().parent.parent


def files(folder, at_least, pattern="*.py"):
    """The files below a folder, as paths from the root."""
    paths = sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern))
    assert len(paths) >= at_least, f"{folder}: {len(paths)} files, at least {at_least} expected"
    return paths


WORKER, WEBHOOKS, EMULATOR = files("worker", 80), files("webhooks", 17), files("emulator", 24)
PRODUCT = WORKER + WEBHOOKS + EMULATOR
HARNESS = files("faults", 16) + files("benchmarks", 14)
ROOMS = sorted({path.parent for path in WORKER + WEBHOOKS})


def test_every_room_imports_only_what_it_may():
    lint = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout[-2000:]
    assert int(re.search(r"Contracts: (\d+) kept, 0 broken", lint.stdout)[1]) >= 9
    assert int(re.search(r"Analyzed (\d+) files", lint.stdout)[1]) >= len(PRODUCT)


def test_files_and_functions_are_of_a_size_to_read():
    large = []
    for path in PRODUCT + HARNESS:
        text = (ROOT / path).read_text()
        if len(text.splitlines()) > 400:
            large.append(f"{path}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > 50:
                    large.append(f"{path}: {node.name} has {length} lines")
    assert not large, "\n".join(large)


def test_no_file_is_named_for_holding_anything():
    assert not {"utils", "common", "core", "helpers"} & {path.stem for path in PRODUCT + HARNESS}


def test_few_files_lie_flat_in_worker_and_no_room_shares_its_name_with_one_in_it():
    assert len([path for path in WORKER if path.parent == Path("worker")]) <= 8
    assert len(ROOMS) >= 11, ROOMS
    assert not [room for room in ROOMS if (ROOT / room / f"{room.name}.py").exists()]


def test_init_files_hold_a_docstring_and_nothing_else():
    inits = [path for path in PRODUCT if path.name == "__init__.py"]
    assert {path.parent for path in inits} == {*ROOMS, Path("emulator")}
    for path in inits:
        module = ast.parse((ROOT / path).read_text())
        assert ast.get_docstring(module), path
        assert len(module.body) == 1, path


def test_a_private_name_stays_in_its_module_and_no_module_re_exports():
    wrong = []
    for path in PRODUCT + HARNESS:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module != "__future__":
                names = [alias.name for alias in node.names if alias.name.startswith("_")]
                wrong += [f"{path} imports {name} of {node.module}" for name in names]
            if isinstance(node, ast.Name) and node.id == "__all__":
                wrong.append(f"{path} has __all__")
    assert not wrong, "\n".join(wrong)


def test_the_architecture_page_says_what_each_file_owns():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `((?:worker|webhooks)/[\w/]+\.py)` \| (.*\S) \|$", page, re.MULTILINE)
    modules = {str(path) for path in WORKER + WEBHOOKS if path.name != "__init__.py"}
    assert len(modules) >= 85
    times = Counter(path for path, _ in rows)
    wrong = [f"{path}: {times[path]} rows" for path in sorted(modules) if times[path] != 1]
    wrong += [f"{path}: a row and no file" for path in sorted(times.keys() - modules)]
    assert not wrong, "\n".join(wrong)


def test_the_procfile_says_what_an_installed_package_runs():
    commands = {}
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        program, *arguments = shlex.split(command)
        assert program == ".venv/bin/python"
        commands[name] = arguments
    assert commands == {name: words[1:] for name, words in process_commands().items()}


def test_the_procfile_has_a_line_for_each_process_and_a_worker_for_each_queue():
    commands = process_commands()
    assert set(commands) == {"web", "stops", "fetches", "keep", "clock"}
    for queue in QUEUES:
        assert commands[queue][commands[queue].index("-Q") + 1] == queue
    for name in ("web", "clock"):
        importlib.import_module(commands[name][-1])
    assert DEEDS.keys() == LEASES.keys() == set(Duty)
    assert QUEUE_OF.keys() == BATCH.keys() == set(Duty) - {Duty.PLAN}
    assert {*QUEUE_OF.values(), "stops"} == set(QUEUES)


# What shows that a test starts a Redis by itself. (conftest.py marks the tests that use the fixtures
# `redis_server` and `service`.)
STARTS_REDIS = re.compile(
    r"\bEmbeddedRedis\(|\bfind_server\(|\bWatchedRedis\("
    r"|faults\.run|benchmarks/run\.py|\"demo\"|\"run\"\]"
)


def test_all_that_starts_a_redis_is_played_with_the_other_one_too():
    starting = [
        path
        for path in files("tests", 74, "test_*.py")
        if path.name != "test_house.py" and STARTS_REDIS.search((ROOT / path).read_text())
    ]
    assert len(starting) >= 7, starting
    assert not [path for path in starting if "mark.redis" not in (ROOT / path).read_text()]


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
