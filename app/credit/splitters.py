"""Where the steps of a solution end, as character offsets of its text."""

from __future__ import annotations

import re

LINES = r"\n(?:[ \t]*\n)*"  # blank lines belong to the line before them
ENDS = {
    "lines": re.compile(LINES),
    "blocks": re.compile(r"\n(?:[ \t]*\n)+"),
    "headings": re.compile(r"\n(?=[#* \t]*Step \d+\b)"),
    "sentences": re.compile(rf"(?<=[.!?])[ \t]+(?=[A-Z$\\(])|{LINES}"),
}
# Code and display maths are never cut.
WHOLE = re.compile(r"```.*?```|\$\$.*?\$\$|\\\[.*?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)


def cut(text: str, style: str = "lines", most: int | None = None) -> list[int]:
    """Offsets at which a step ends and the next one begins, ascending, strictly inside the text.

    A step is never blank: blank lines belong to the step before them, at the start of the text to the first step.

    Args:
        text: a solution.
        style: `lines`; `blocks` between blank lines; `headings`, each `Step k` at the start of a line begins one;
            `sentences`, which line ends close too. None cuts inside a code block or display maths.
        most: keep at most `most` steps by merging neighbours, as evenly as the number of steps allows.
    """
    whole = [match.span() for match in WHOLE.finditer(text)]
    ends = (match.end() for match in ENDS[style].finditer(text))
    places = _solid(text, [end for end in ends if not any(a < end < b for a, b in whole)])
    return places if most is None else merge(places, most)


def merge(places: list[int], most: int) -> list[int]:
    """Keep the ends of `most` groups of neighbouring steps; the groups' sizes differ by at most one step."""
    steps = len(places) + 1
    if steps <= most:
        return places
    return [places[(group * steps) // most - 1] for group in range(1, most)]


def _solid(text: str, places: list[int]) -> list[int]:
    """Those of the places that leave something other than white space on both sides."""
    kept: list[int] = []
    for place in places:
        if text[place:].strip() and text[kept[-1] if kept else 0 : place].strip():
            kept.append(place)
    return kept
