"""Log lines wait in a queue of their process; whatever becomes of standard error, the process goes
on, and what was logged before its end is written."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading

import pytest

LOGS = """
import multiprocessing, os, signal, sys, threading, time
from worker import logs
import logging, structlog
logs.set_up("text")
log = structlog.get_logger()
"""


def run(program, **how):
    return subprocess.run(
        [sys.executable, "-c", LOGS + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **how,
    )


@contextlib.contextmanager
def full_pipe():
    """Both ends of a pipe that takes nothing more."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writes, b"." * select.PIPE_BUF)
    os.set_blocking(writes, True)
    yield reads, writes
    for end in (reads, writes):
        with contextlib.suppress(OSError):
            os.close(end)


def emptied(reads):
    """All that comes, until nobody can write there any more."""
    taken = []
    while part := os.read(reads, 65536):
        taken.append(part)
    return b"".join(taken).decode().lstrip(".")


def started(program, stderr):
    return subprocess.Popen(
        [sys.executable, "-c", LOGS + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


MANY = """
for number in range(2000):
    log.info("a line", number=number, rest="x" * 4000)
logging.getLogger("other").warning("of a library")
print("went on", flush=True)
input()
for _ in range(10):
    logs.flush()  # returns at once when nothing waits
log.info("the last line")
"""


def test_a_blocked_standard_error_stops_nobody_and_what_was_dropped_is_counted_and_told_once():
    with full_pipe() as (reads, writes), started(MANY, writes) as process:
        os.close(writes)
        assert process.stdout.readline() == "went on\n"
        texts = []
        reader = threading.Thread(target=lambda: texts.append(emptied(reads)))
        reader.start()
        process.communicate("\n", timeout=20)
        reader.join()
    numbers = [int(number) for number in re.findall(r" number=(\d+)", texts[0])]
    told = re.findall(r"log lines were dropped: .* lines=(\d+)\n", texts[0])
    assert process.returncode == 0
    assert 500 < len(numbers) < 1500  # 4 MiB of them
    assert numbers == list(range(len(numbers)))
    of_library = texts[0].count("of a library")  # it is short, and may have fitted
    assert told == [str(2001 - len(numbers) - of_library)]
    assert "the last line" in texts[0].partition("log lines were dropped")[2]


def test_a_process_ends_although_nobody_will_ever_read_its_lines():
    with full_pipe() as (_, writes), started("log.info('unread')", writes) as process:
        assert process.wait(20) == 0


@pytest.mark.parametrize("ends", ["sys.exit(3)", "1 / 0", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_what_was_logged_just_before_the_end_is_written(ends):
    done = run(
        f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
for number in range(300):
    log.info("near the end", number=number)
try:
    [][0]
except IndexError:
    log.exception("a fault")
{ends}
"""
    )
    numbers = [int(number) for number in re.findall(r" number=(\d+)", done.stderr)]
    assert numbers == list(range(300))
    assert "IndexError: list index out of range" in done.stderr
    assert ("ZeroDivisionError" in done.stderr) == ("/" in ends)
    assert done.returncode == (1 if "/" in ends else 3)


def test_a_forked_child_writes_its_own_lines_and_no_line_twice():
    done = run(
        """
def child(number):
    log.info("in the child", number=number)
def chatter():
    while not ended.is_set():
        log.info("beside")
ended = threading.Event()
threading.Thread(target=chatter, daemon=True).start()
for number in range(10):
    log.info("first", number=number)
    log.info("waits at the fork", number=number)
    process = multiprocessing.get_context("fork").Process(target=child, args=(number,))
    process.start()
    process.join()
    assert process.exitcode == 0
ended.set()
"""
    )
    assert done.returncode == 0, done.stderr[-1000:]
    for what in ("first", "waits at the fork", "in the child"):
        numbers = re.findall(rf"\] {what} +number=(\d+)", done.stderr)
        assert numbers == [str(number) for number in range(10)], what


def test_a_signals_handler_may_log_in_the_midst_of_a_line():
    done = run(
        """
signal.signal(signal.SIGALRM, lambda *_: log.info("from the handler"))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(10_000):
    log.info("a line")
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    )
    assert done.returncode == 0
    assert done.stderr.count("] a line") == 10_000
    assert "from the handler" in done.stderr


def test_lines_that_went_nowhere_are_told_when_standard_error_is_mended():
    done = run(
        """
kept = os.dup(2)
reads, writes = os.pipe()
os.close(reads)
os.dup2(writes, 2)
for _ in range(3):
    log.info("lost")
    logs.flush()
os.dup2(kept, 2)
log.info("found")
"""
    )
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "found" in lines[0]
    assert "lines=3" in lines[1]


def test_lines_of_processes_that_share_a_pipe_do_not_mix():
    program = """
for number in range(2000):
    log.info("a line of process PID", rest="x" * 100)
"""
    reads, writes = os.pipe()
    crew = [started(program.replace("PID", str(pid)), writes) for pid in (1, 2)]
    os.close(writes)
    lines = emptied(reads).splitlines()
    for process in crew:
        process.communicate(timeout=20)
    whole = re.compile(r"\S+ \[info     \] a line of process [12] +rest=x{100}")
    assert len(lines) == 4000
    assert not [line for line in lines if not whole.fullmatch(line)]


def test_ending_by_sigterm_is_not_delayed_by_lines_that_nobody_takes():
    program = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
log.info("unread")
print("ready", flush=True)
time.sleep(60)
"""
    with full_pipe() as (_, writes), started(program, writes) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
