"""Which Redis is refused, warned about or waited for, against real servers with each setting."""

import contextlib
import os
import subprocess
import time
from dataclasses import replace

import pytest
import redis

from tests.constants import ENV
from tests.ledger.servers import check, servers
from tests.waiting import until
from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger import fitness
from worker.ledger.client import Ledger
from worker.ledger.fitness import State
from worker.ledger.store import connect
from worker.processes.embedded_redis import find_server
from worker.processes.supervisor import ROOT, free_port, process_commands
from worker.settings import Settings

GOOD = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
pytestmark = pytest.mark.redis


@contextlib.contextmanager
def serving(folder, port, *more, **config):
    words = [
        word
        for name, value in {**GOOD, **config}.items()
        for word in (f"--{name.replace('_', '-')}", value)
    ]
    process = subprocess.Popen(
        [find_server(), "--port", str(port), "--dir", folder, "--save", "", *words, *more],
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    url = f"redis://127.0.0.1:{port}"
    try:
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def server(tmp_path):
    """Starts a server with these settings, and gives its address when it answers."""
    with contextlib.ExitStack() as open_things:

        def start(*more, port=None, **config):
            url = open_things.enter_context(serving(tmp_path, port or free_port(), *more, **config))
            until(lambda: answers(url))
            return url

        yield start


def answers(url):
    try:
        return bool(redis.Redis.from_url(url).execute_command("ECHO", "x"))
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False


def settings(url, **env):
    return Settings.from_env({**ENV, "REDIS_URL": url, **env})


def states(url, **how):
    return {f.name: f.state for f in fitness.findings(connect(url), **how)}


def wrong(url, **how):
    return {name: state for name, state in states(url, **how).items() if state is not State.FINE}


def refusals(url, **env):
    with pytest.raises(SettingsError) as caught:
        check(settings(url, **env))
    return "\n".join(caught.value.problems)


def test_a_server_as_it_should_be_passes(server):
    url = server()
    assert wrong(url) == {}
    check(settings(url))
    assert Ledger(connect(url)).prepare()


def test_an_evicting_server_is_refused_whether_or_not_its_memory_is_limited(server):
    url = server(maxmemory_policy="allkeys-lru")
    assert "maxmemory-policy is allkeys-lru" in refusals(url)
    connect(url).config_set("maxmemory-policy", "volatile-ttl")
    connect(url).config_set("maxmemory", "100mb")
    assert "maxmemory-policy is volatile-ttl" in refusals(url)


def test_a_cluster_is_refused_even_of_one_node_and_for_the_queues_alone(server):
    url = server(cluster_enabled="yes")
    assert "Redis Cluster" in refusals(url)
    other = server()
    assert "CELERY_BROKER_URL = (secret): the server is part of a Redis Cluster" in refusals(
        other, CELERY_BROKER_URL=url
    )


def test_without_an_append_only_file_it_is_refused_unless_the_operator_allows_it(server):
    url = server(appendonly="no")
    assert "ENDTAPE_APPENDONLY=optional" in refusals(url)
    check(settings(url, ENDTAPE_APPENDONLY="optional"))
    assert wrong(url, allow_no_aof=True) == {"append-only file": State.WARNING}


@pytest.mark.parametrize("fsync", ["everysec", "no"])
def test_a_file_that_is_not_synced_with_every_write_is_warned_about(server, fsync):
    assert wrong(server(appendfsync=fsync)) == {"appendfsync": State.WARNING}


def test_a_server_that_does_not_tell_its_settings_is_warned_about_and_not_refused(server):
    url = server("--rename-command", "CONFIG", "")
    assert wrong(url) == {"appendfsync": State.WARNING}
    check(settings(url))
    mute = server("--rename-command", "INFO", "", port=free_port())
    assert wrong(mute) == {
        "version": State.WARNING,
        "eviction": State.WARNING,
        "append-only file": State.WARNING,
    }


@pytest.mark.parametrize(
    ("off_s", "state"),
    [
        (0.0, None),
        (0.5, State.WARNING),
        (-0.5, State.WARNING),
        (2.5, State.FAILED),
        (-3600, State.FAILED),
    ],
)
def test_a_clock_that_is_off_is_refused_above_two_seconds(server, off_s, state):
    assert wrong(server(), now=lambda: time.time() + off_s) == ({"clock": state} if state else {})


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("6.0.16", State.FAILED),
        ("5.0.7", State.FAILED),
        ("6.2.0", State.FINE),
        ("7.2.4", State.FINE),
        ("10.0", State.FINE),
    ],
)
def test_the_oldest_server_is_6_2(version, state):
    assert fitness._version({"redis_version": version}).state is state


def test_a_wrong_password_is_refused_and_never_shown(server):
    url = server("--requirepass", "right-password")
    found = refusals(url.replace("//", "//:wrong-password@"))
    assert ("refuses name and password" in found, "wrong-password" in found) == (True, False)
    check(settings(url.replace("//", "//:right-password@")))


def test_a_wrong_password_for_the_queues_is_blamed_on_their_own_setting(server):
    url, queues = server(), server("--requirepass", "right-password", port=free_port())
    found = refusals(url, CELERY_BROKER_URL=queues.replace("//", "//:wrong-password@"))
    assert "CELERY_BROKER_URL = (secret): the server refuses name and password" in found
    assert "REDIS_URL" not in found.replace("CELERY_BROKER_URL", "")


@pytest.mark.parametrize("taken", ["time", "set"])
def test_a_server_that_never_does_what_we_need_is_refused_and_not_waited_for(server, taken):
    url = server()
    connect(url).execute_command("ACL", "SETUSER", "default", f"-{taken}")
    assert "refuses a command that Endtape needs" in refusals(url)
    gone = server("--rename-command", taken.upper(), "", port=free_port())
    assert "refuses a command that Endtape needs" in refusals(gone)


def test_all_that_is_wrong_is_told_at_once(server):
    assert (
        refusals(server(appendonly="no", maxmemory_policy="allkeys-lfu")).count(
            "REDIS_URL = (secret): "
        )
        == 2
    )


def test_a_server_that_does_not_answer_is_waited_for(server):
    port = free_port()
    with pytest.raises(LedgerUnavailable):
        check(settings(f"redis://127.0.0.1:{port}"))
    turns = iter(range(10))

    def starts_meanwhile():
        if next(turns) == 1:
            server(port=port)
        return False

    fitness.wait(**servers(settings(f"redis://127.0.0.1:{port}")), given_up=starts_meanwhile)
    assert next(turns) >= 2


@pytest.mark.parametrize("name", list(process_commands()))
def test_every_process_refuses_an_unfit_server_within_five_seconds_and_waits_for_one_that_is_down(
    server, tmp_path, name
):
    port = free_port()
    env = {
        **os.environ,
        **ENV,
        "REDIS_URL": f"redis://127.0.0.1:{port}",
        "CELERY_BROKER_URL": "",
        "PORT": str(free_port()),
    }
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            process_commands()[name],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        told = (tmp_path / "out").read_text
        try:
            until(lambda: "waiting for redis" in told())
            assert process.poll() is None
            server(port=port, maxmemory_policy="allkeys-lru")
            began = time.monotonic()
            assert process.wait(15) == 2
            assert time.monotonic() - began < 5
            assert "REDIS_URL = (secret): maxmemory-policy is allkeys-lru" in told()
        finally:
            if process.poll() is None:
                process.kill()


def test_the_settings_say_whether_a_file_is_needed():
    assert settings("redis://h").allow_no_aof is False
    assert replace(settings("redis://h", ENDTAPE_APPENDONLY="optional")).allow_no_aof is True


@pytest.mark.end_to_end
def test_a_start_without_the_rules_file_that_was_there_is_refused_by_every_process_with_the_way_out(
    server, tmp_path
):
    url = server()
    rules, given = tmp_path / "endtape.toml", {**ENV, "REDIS_URL": url}
    check(Settings.from_env(given, folder=tmp_path))  # there never was one
    rules.write_text('[defaults]\nmax_duration = "5m"\n')
    check(Settings.from_env(given, folder=tmp_path))
    rules.unlink()
    env = {**os.environ, **given, "PORT": str(free_port())}
    started = {
        name: subprocess.Popen(
            command,
            cwd=tmp_path,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, command in process_commands().items()
    }
    for name, process in started.items():
        told = process.communicate(timeout=60)[1]
        assert (process.returncode, "endtape.toml is gone" in told) == (2, True), name
    rules.write_text('[defaults]\nmode = "observe"\n')  # said in so many words
    check(Settings.from_env(given, folder=tmp_path))
