"""Each example of docs/rules-by-example.md, asked as its reader would ask it."""

import re
import shlex

import pytest
from click.testing import CliRunner

from worker.command.main import main
from worker.processes.supervisor import ROOT

PAGE = (ROOT / "docs" / "rules-by-example.md").read_text()
EXAMPLES = {
    title: (rules, re.split(r"^\$ ", asked, flags=re.MULTILINE)[1:])
    for title, rules, asked in re.findall(
        r"^## ([^\n]+)\n(?:(?!^## ).)*?^```toml\n(.*?)^```\n\n^```console\n(.*?)^```",
        PAGE,
        re.MULTILINE | re.DOTALL,
    )
}
ACCOUNT = {
    "VOBIZ_AUTH_ID": "MA_1",
    "VOBIZ_AUTH_TOKEN": "t",
    "REDIS_URL": "redis://127.0.0.1:1",
    "ENDTAPE_CALLBACK_TOKEN": "c" * 16,
    "ENDTAPE_API_KEY": "k" * 16,
}


def lines(text):
    """The lines with single spaces, since a table is as wide as what stands in it."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_every_example_is_a_file_and_what_is_said_of_it():
    assert len(EXAMPLES) == PAGE.count("\n## ") == PAGE.count("```toml") >= 8


@pytest.mark.parametrize("title", EXAMPLES)
def test_what_the_page_shows_is_what_explain_says(title, tmp_path, monkeypatch):
    rules, asked = EXAMPLES[title]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endtape.toml").write_text(rules)
    for entry in asked:
        command, _, shown = entry.partition("\n")
        program, *words = shlex.split(command)
        assert program == "endtape"
        found = CliRunner().invoke(main, words, env={**ACCOUNT, "COLUMNS": "120"})
        assert found.exit_code == 0, found.output
        assert lines(shown), command
        missing = [line for line in lines(shown) if line not in lines(found.output)]
        assert not missing, (missing, found.output)
