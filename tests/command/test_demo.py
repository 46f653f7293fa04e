"""`endtape demo` takes a folder for itself, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from click import BadParameter
from click.testing import CliRunner

from worker.command import demo_folder
from worker.command.demo import demo


def test_a_demo_refuses_a_folder_that_holds_something_else_and_leaves_it(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("three years")

    said = CliRunner().invoke(demo, ["--folder", str(tmp_path)])

    assert said.exit_code == 2
    assert str(tmp_path) in said.output
    assert "thesis.txt" in said.output
    assert "new or empty" in said.output
    assert thesis.read_text() == "three years"


def test_a_demo_refuses_a_file_in_the_place_of_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "output"
    file.write_text("mine")

    with pytest.raises(BadParameter, match="which is a file"), demo_folder.taken(file):
        pass

    assert file.read_text() == "mine"


def test_a_demo_takes_the_folder_of_an_earlier_one_until_something_is_added(tmp_path: Path) -> None:
    folder = tmp_path / "demo-output"
    with demo_folder.taken(folder):
        (folder / "endtape.log").write_text("of the first")
        (folder / "spool").mkdir()
    inode = folder.stat().st_ino

    with demo_folder.taken(folder):
        assert [entry.name for entry in folder.iterdir()] == [demo_folder.MARKER]
        assert folder.stat().st_ino == inode, "a shell may stand in it"
        (folder / "endtape.toml").write_text("of the second")

    (folder / ".env").write_text("PORT=8000")
    with pytest.raises(BadParameter, match=r"no demo made \(\.env\)"), demo_folder.taken(folder):
        pass
    assert (folder / "endtape.toml").read_text() == "of the second"


def test_a_demo_takes_the_folder_of_one_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "demo-output"
    killed = demo_folder.taken(folder)
    killed.__enter__()
    (folder / "endtape.log").write_text("of the first")

    with demo_folder.taken(folder):
        assert not (folder / "endtape.log").exists()
