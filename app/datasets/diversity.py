"""How far apart solutions are, and which few of them are most diverse."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from app.records import digest

EQUATION = re.compile(r"[-+*/^().\d\s]*\d[-+*/^().\d\s]*(?:=[-+*/^().\d\s]*\d[-+*/^().\d\s]*)+")
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


def equations(text: str) -> tuple[str, ...]:
    """The equations written in a solution, in order, without spaces, currency and thousands separators.

    `3 apples * $4 = $12` holds none we can read as a whole; `3 * $4 = $12` gives `3*4=12`. Calculator marks of GSM8K
    (`<<3*4=12>>12`) count as the equation inside.
    """
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.translate(SIGNS))
    plain = re.sub(r"\\times|\\cdot", "*", plain).replace("$", "").replace("\\", "")
    inside = re.findall(r"<<([^<>]*)>>", plain)
    source = "\n".join(inside) if inside else plain
    found = (match.group() for line in source.split("\n") for match in EQUATION.finditer(line))
    return tuple(re.sub(r"\s", "", equation).strip(".") for equation in found)


def signature(text: str) -> str:
    """What makes two solutions the same one: their equations in order, or the words where there are none.

    After RFT (arXiv 2308.01825), which keeps one solution a distinct equation list.
    """
    listed = equations(text)
    return digest("equations", listed) if listed else digest("words", text.lower().split())


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Levenshtein distance by bit-parallel columns (Myers 1999; Hyyro's form): len(b) steps on len(a)-bit integers."""
    if not a or not b:
        return len(a) or len(b)
    places: dict[Hashable, int] = {}
    for index, symbol in enumerate(a):
        places[symbol] = places.get(symbol, 0) | 1 << index
    full, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    rises, falls, distance = full, 0, len(a)
    for symbol in b:
        match = places.get(symbol, 0)
        diagonal = (((match & rises) + rises) ^ rises) | match | falls
        up, down = falls | ~(diagonal | rises) & full, rises & diagonal
        distance += bool(up & last) - bool(down & last)
        up = (up << 1 | 1) & full
        rises, falls = (down << 1) & full | ~(diagonal | up) & full, up & diagonal
    return distance


def most_diverse(items: Sequence[Sequence[Hashable]], k: int) -> list[int]:
    """Indices of at most k items, greedily of the largest summed edit distance to those taken.

    The first one taken is the farthest from all. Ties go to the earlier item: give them in an order of your own.
    """
    if len(items) <= k:
        return list(range(len(items)))
    distance = [[0] * len(items) for _ in items]
    for i, one in enumerate(items):
        for j in range(i):
            distance[i][j] = distance[j][i] = edit_distance(one, items[j])
    taken = [max(range(len(items)), key=lambda i: sum(distance[i]))]
    while len(taken) < k:
        rest = (i for i in range(len(items)) if i not in taken)
        taken.append(max(rest, key=lambda i: sum(distance[i][j] for j in taken)))
    return taken
