"""The documents: their links lead somewhere, and the README is short."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.commands import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What its headings are called in links, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        if "://" in name:
            continue
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def commands(page: Path) -> list[str]:
    """Lines of code that call eightfold, and such pieces of code in the text, without what is said beside them."""
    text = page.read_text()
    fenced = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = [
        *re.findall(r"^ {4}(eightfold .*)$", text, re.MULTILINE),
        *re.findall("^eightfold .*$", fenced, re.MULTILINE),
    ]
    lines += re.findall(r"`(eightfold \w[^`\n]* [^`\n]*)`", text)
    return [line for line in lines if " WORD " not in line]


CALLED = [(page.name, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), CALLED)
def test_commands_are_understood(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("jobs.commands.call", lambda job, *words, **options: heard.append(job))
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, f"{page}: {line}\n{done.output}"
