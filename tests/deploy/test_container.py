"""`deploy/Dockerfile` and `deploy/compose.yaml`, and the examples of settings beside them.

With BARE_ROOT naming a folder, each `RUN` is played in a bare Debian root, which is made there by
debootstrap where there is none yet (minutes, root and a mirror of Debian; not part of the suite):

    BARE_ROOT=/var/tmp/bare .venv/bin/python -m pytest tests/deploy/test_container.py

BARE_ROOT_SEES names what else pip needs in there (its configuration, certificates), with colons between.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import requests
import yaml

from tests.waiting import until
from worker.calls import rules_file
from worker.processes import alive
from worker.processes.embedded_redis import find_server
from worker.processes.supervisor import ROOT, free_port
from worker.settings import Settings
from worker.variables.table import KNOWN

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
OURS = {name: COMPOSE["services"][name] for name in PROCFILE}
BARE = os.environ.get("BARE_ROOT")
SEEN = [place for place in os.environ.get("BARE_ROOT_SEES", "").split(":") if place]


def steps():
    """Each instruction of the Dockerfile with its words; a backslash joins lines."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [tuple(line.split(" ", 1)) for line in lines.splitlines() if line.strip()]


def test_compose_runs_each_line_of_the_procfile_and_gives_each_process_a_health_check():
    assert {n: service["command"] for n, service in OURS.items()} == PROCFILE
    assert set(COMPOSE["services"]) - set(OURS) == {"redis", "postgres"}
    for name, service in COMPOSE["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "always", name
    for name, service in OURS.items():
        assert service["stop_grace_period"] == "20s", name
        needed = {n: how["condition"] for n, how in service["depends_on"].items()}
        assert needed == dict.fromkeys(("redis", "postgres"), "service_healthy"), name
    checks = {n: " ".join(service["healthcheck"]["test"][1:]) for n, service in OURS.items()}
    assert "/healthz" in checks.pop("web")
    assert set(checks.values()) == {".venv/bin/python -m worker.processes.alive"}


def test_compose_sets_only_what_is_a_setting_and_all_its_mounts_are_where_settings_point():
    for service in OURS.values():
        env = service["environment"]
        assert env.keys() <= KNOWN
        mounted = {v.partition(":")[2] for v in service["volumes"] if isinstance(v, str)}
        bound = {v["target"] for v in service["volumes"] if isinstance(v, dict)}
        assert {env["ENDTAPE_ARCHIVE"], env["ENDTAPE_SPOOL"]} < mounted
        assert str(Path(env["ENDTAPE_SIGNING_KEY"]).parent) in mounted
        assert env["ENDTAPE_CONFIG"] in bound
        assert {v.partition(":")[0] for v in service["volumes"] if isinstance(v, str)} <= {
            *COMPOSE["volumes"]
        }
    (kept,) = (json.loads(words) for name, words in steps() if name == "VOLUME")
    assert set(kept) == mounted


def test_the_settings_of_compose_are_accepted(tmp_path):
    env = {k: v for k, v in OURS["web"]["environment"].items() if k != "ENDTAPE_CONFIG"}
    env["ENDTAPE_CATALOG"] = re.sub(r"\$\{[^}]*\}", "s3cret", env["ENDTAPE_CATALOG"])
    given = {"VOBIZ_AUTH_ID": "MA_1", "VOBIZ_AUTH_TOKEN": "t", "ENDTAPE_API_KEY": "k" * 16}
    settings = Settings.from_env(
        {**env, **given, "ENDTAPE_CALLBACK_TOKEN": "c" * 16}, folder=tmp_path
    )
    assert (settings.host, settings.warnings) == ("0.0.0.0", ())


def test_the_redis_of_compose_forces_each_write_to_disk_and_throws_no_key_away():
    said = shlex.split(COMPOSE["services"]["redis"]["command"])
    pairs = dict(zip(said[1::2], said[2::2], strict=True))
    assert (pairs["--appendonly"], pairs["--appendfsync"]) == ("yes", "always")
    assert pairs["--maxmemory-policy"] == "noeviction"
    assert "redis:/data" in COMPOSE["services"]["redis"]["volumes"]


def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody_in_particular():
    shown = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    for name, words in steps():
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in shown, source
    names = [name for name, _ in steps()]
    (user,) = (words for name, words in steps() if name == "USER")
    assert user == "endtape"
    # What comes after it changes nothing in the image.
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])
    assert steps()[-1] == ("CMD", json.dumps(PROCFILE["web"].split()))
    set_here = re.findall(r"\b([A-Z_]+)=", next(words for name, words in steps() if name == "ENV"))
    assert set(set_here) - {"PATH", "PYTHONUNBUFFERED"} <= KNOWN
    assert "[.postgresql]" not in DOCKERFILE
    assert ".[postgresql]" in DOCKERFILE


@pytest.mark.redis
def test_the_health_check_of_a_worker_looks_for_a_heartbeat_of_this_machine(ledger):
    assert alive.unwell(ledger) == f"no heartbeat of a process on {socket.gethostname()}"
    ledger.seen("slots.stops", "another-machine:1", 4)
    assert alive.unwell(ledger)
    ledger.seen("slots.stops", f"{socket.gethostname()}:1", 4)
    assert alive.unwell(ledger) is None


def test_the_examples_of_settings_and_rules_are_accepted_and_name_only_what_there_is(tmp_path):
    example = (ROOT / ".env.example").read_text()
    names = re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    assert len(names) >= 10
    assert set(names) <= KNOWN
    filled = {
        "VOBIZ_AUTH_ID": "MA_7QK2XWPD",
        "VOBIZ_AUTH_TOKEN": "t",
        "ENDTAPE_PUBLIC_URL": "https://calls.example.com",
        "ENDTAPE_CALLBACK_TOKEN": "c" * 16,
        "ENDTAPE_API_KEY": "k" * 16,
        "REDIS_URL": "redis://127.0.0.1:6379/0",
    }
    assert filled.keys() <= set(names)
    (tmp_path / ".env").write_text(
        re.sub(
            r"^([A-Z_]+)=$", lambda m: f"{m[1]}={filled.get(m[1], '')}", example, flags=re.MULTILINE
        )
    )
    rules = (ROOT / "endtape.toml.example").read_text()
    (tmp_path / "endtape.toml").write_text(rules)
    settings = Settings.from_env({}, folder=tmp_path)
    assert (settings.public_url, settings.warnings) == (filled["ENDTAPE_PUBLIC_URL"], ())
    assert [r.name for r in settings.rules.rules] == ["payments", "training"]
    # What stands there as a comment is right too.
    rules_file.read(re.sub(r"^# (?=\[\[|\w+ = )", "", rules, flags=re.MULTILINE), "endtape.toml")


# In a bare root
# ------------------------------------------------------------------------------------------------


class Root:
    """A stage of the image: a root in which `RUN` is played, by the machine's own way out."""

    def __init__(self, folder):
        self.folder, self.place, self.env = folder, "/", {}

    def play(self, name, words, stages):
        if name == "WORKDIR":
            self.place = words
            (self.folder / words[1:]).mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            self.env |= dict(re.findall(r"([A-Z_]+)=(\S+)", words))
        elif name == "COPY":
            self.copy(words.split(), stages)
        elif name == "RUN":
            self.run(["sh", "-euc", words], check=True)

    def copy(self, words, stages):
        source = ROOT
        if words[0].startswith("--from="):
            source = stages[words.pop(0).removeprefix("--from=")].folder
        *what, to = words
        for path in what:
            target = self.folder / to[1:]
            if (source / path.lstrip("/")).is_dir():
                shutil.copytree(source / path.lstrip("/"), target, symlinks=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / path, target)

    def run(self, words, *, check=False, user="0"):
        return subprocess.run(
            **self.started(words, user),
            capture_output=not check,
            text=True,
            timeout=500,
            check=check,
        )

    def started(self, words, user):
        """What starts it in this root. Mounts live in a namespace of their own, which ends with it;
        each program takes the place of the one before, so its process is the one that is started.
        """
        # As every container has them.
        mounts = [
            f"mount -t proc proc {self.folder}/proc",
            f"mkdir -p {self.folder}/dev/shm",
            f"mount -t tmpfs -o mode=1777 tmpfs {self.folder}/dev/shm",
        ]
        for place in SEEN:
            inside = shlex.quote(f"{self.folder}{place}")
            made = f"mkdir -p {inside}" if Path(place).is_dir() else f"touch {inside}"
            mounts.append(f"{made}; mount --bind -o ro {shlex.quote(place)} {inside}")
        inside = f"cd {self.place} && exec {shlex.join(words)}"
        chroot = [shutil.which("chroot"), f"--userspec={user}", str(self.folder)]
        command = shlex.join([*chroot, "/bin/sh", "-c", inside])
        kept = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or "proxy" in k.lower()}
        return {
            "args": ["unshare", "--mount", "sh", "-euc", "; ".join([*mounts, f"exec {command}"])],
            "env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **kept, **self.env},
        }


@contextlib.contextmanager
def redis_of_compose(folder):
    """A server with the words of compose.yaml, at a port of this machine."""
    folder.mkdir()
    port = free_port()
    words = shlex.split(COMPOSE["services"]["redis"]["command"])[1:]
    server = subprocess.Popen([find_server(), *words, "--port", str(port), "--dir", folder])
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def bare(tmp_path):
    """Makes copies of the bare root."""
    base = Path(BARE)
    if not (base / "bin" / "sh").exists():
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", base], check=True)

    def make(name):
        subprocess.run(["cp", "-a", base, tmp_path / name], check=True)
        shutil.copy("/etc/resolv.conf", tmp_path / name / "etc" / "resolv.conf")
        return Root(tmp_path / name)

    return make


@pytest.mark.end_to_end
@pytest.mark.redis
@pytest.mark.skipif(
    not (BARE and shutil.which("debootstrap") and os.geteuid() == 0),
    reason="no BARE_ROOT: the lines of deploy/Dockerfile are not played",
)
def test_each_run_of_the_dockerfile_is_played_in_a_bare_root_and_the_service_runs_there(
    bare, tmp_path
):
    stages, stage = {}, None
    for name, words in steps():
        if name == "FROM":
            called = words.partition(" AS ")[2] or "image"
            stage = stages[called] = bare(called)
        else:
            stage.play(name, words, stages)
    the_service_runs_in(stage, tmp_path)


def the_service_runs_in(stage, folder):
    user = "endtape:endtape"
    said = stage.run([".venv/bin/endtape", "--version"], user=user)
    assert said.stdout.startswith("endtape "), said
    for line in PROCFILE.values():
        found = stage.run(line.split(), user=user)
        assert (found.returncode, "VOBIZ_AUTH_ID" in found.stderr) == (2, True), (line, found)
    assert stage.run(["touch", "/opt/endtape/x"], user=user).returncode != 0
    with contextlib.ExitStack() as ending, (folder / "log").open("w") as log:
        url, port = ending.enter_context(redis_of_compose(folder / "redis")), free_port()
        stage.env |= {
            "VOBIZ_AUTH_ID": "MA_1",
            "VOBIZ_AUTH_TOKEN": "t",
            "VOBIZ_API_URL": "http://127.0.0.1:1/api/v1",
            "ENDTAPE_CALLBACK_TOKEN": "c" * 16,
            "ENDTAPE_API_KEY": "k" * 16,
            "REDIS_URL": url,
            "PORT": str(port),
        }
        running = [
            subprocess.Popen(**stage.started(line.split(), user), stdout=log, stderr=log)
            for line in PROCFILE.values()
        ]
        for process in running:
            ending.callback(process.wait, 30)
            ending.callback(process.terminate)
        told = until(lambda: ready(port), 60)
        # All but the provider is there, and all places can be written.
        assert told in ("ready\n", "ready\ndegraded: provider: its API does not answer\n")
        well = stage.run([".venv/bin/python", "-m", "worker.processes.alive"], user=user)
        assert well.returncode == 0, well
    assert [process.returncode for process in running] == [0] * len(PROCFILE)


def ready(port):
    with contextlib.suppress(requests.RequestException):
        answer = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
        return answer.status_code == 200 and answer.text
