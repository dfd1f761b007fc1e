"""What docs/design.md says of where things are."""

from __future__ import annotations

import re
from pathlib import Path

from app.credit.search import SEARCHES
from app.credit.settings import PITS, CreditSettings
from app.credit.splitters import ENDS

ROOT = Path(__file__).parents[1]


def table() -> str:
    """Rows of "Where would you change X?"."""
    text = (ROOT / "docs" / "design.md").read_text()
    return text.partition("Where would you change X?")[2].partition("\n## ")[0]


def test_every_file_named_there_is_there() -> None:
    named = set(re.findall(r"\b(?:app|tests)/[\w/.]+\w\.(?:py|html)", table()))
    assert len(named) > 15
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_every_name_of_code_there_is_in_a_file_of_its_row() -> None:
    rows = [row for row in table().split("\n") if "app/" in row]
    for row in rows:
        files = re.findall(r"\bapp/[\w/.]+\w\.py", row)
        text = "".join((ROOT / path).read_text() for path in files)
        for name in re.findall(r"`([A-Za-z_]+)`", row):
            if name not in ("plugins", "kind"):  # keys of a recipe
                assert re.search(rf"\b{name}\b", text), f"{name}: not in {files}"


def test_a_splitter_and_a_search_have_the_same_names_in_settings_and_code() -> None:
    allowed = {name: CreditSettings.model_fields[name].annotation.__args__ for name in ("steps", "search")}  # type: ignore[union-attr]
    assert set(allowed["steps"]) == set(ENDS)
    assert set(allowed["search"]) == {*SEARCHES, "adaptive"}
    assert {search for searches, _ in PITS.values() for search in searches} <= set(allowed["search"])
