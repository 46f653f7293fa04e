"""The wheel, alone in an environment outside the checkout: all that a process needs travels with
it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.waiting import until
from worker.processes.supervisor import ROOT, free_port

pytestmark = [pytest.mark.redis, pytest.mark.end_to_end, pytest.mark.xdist_group("wheel")]
PACKAGES = ("worker", "webhooks", "emulator")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout and nothing old is taken from
    it."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in (*PACKAGES, "tests", "faults", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (found,) = out.glob("endtape-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of the commands of a fresh environment, which has what endtape depends on, and of
    endtape the wheel."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=60)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            home / "bin" / "python",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-index",
            wheel,
        ],
        check=True,
        timeout=60,
    )
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )  # a path file in there, the checkout's own, is not followed
    return home / "bin"


@pytest.fixture
def env():
    """The surroundings without settings, and without any way back to the checkout."""
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(
            ("ENDTAPE_", "VOBIZ_", "REDIS_", "CELERY_", "PYTHONPATH", "VIRTUAL_ENV")
        )
    }


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else_is(wheel):
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there == ours
    assert len([name for name in there if name.endswith(".py")]) > 85
    assert len([name for name in there if name.endswith(".lua")]) >= 8


def test_the_demo_runs_from_the_wheel(installed, env, tmp_path):
    where = subprocess.run(
        [installed / "python", "-c", "import worker; print(worker.__file__)"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)
    done = subprocess.run(
        [installed / "endtape", "demo", "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([row for row in json.loads(done.stdout) if row["phase"] == "archived"]) == 8


def test_the_service_runs_from_the_wheel(installed, env, tmp_path):
    with (tmp_path / "out").open("w") as out:
        run = subprocess.Popen(
            [installed / "endtape", "run"],
            cwd=tmp_path,
            env={**env, "PORT": str(free_port())},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(
            lambda: "(Ctrl-C ends)" in (tmp_path / "out").read_text() or run.poll() is not None, 40
        )
        assert run.poll() is None, (tmp_path / "out").read_text()
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(20)
