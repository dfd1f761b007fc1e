"""Operations that words name: "half of 7", "7 squared", "negative 7", "the sum of 2 and 5".

Values stand in the text as single private characters, so that a rule sees `half of A`; each rule that applies puts
a new value in their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable

FIRST = 0xE000
A = "([\ue000-\uf8ff])"
_OF = r"\s+(?:of\s+)?(?:the\s+)?"
_FRACTIONS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_FOLDS = {"twice": 2, "double": 2, "thrice": 3, "triple": 3, "quadruple": 4}
_POWERS = {"squared": 2, "cubed": 3, "square": 2, "cube": 3, "second": 2, "third": 3, "fourth": 4, "fifth": 5}


def _group(value: str) -> str:
    return value if re.fullmatch(r"[\w.]+", value) else f"({value})"


def _rule(pattern: str, write: Callable[[re.Match[str], list[str]], str]) -> tuple[re.Pattern[str], Callable[..., str]]:
    return re.compile(pattern, re.IGNORECASE), write


# Tried in order, each as often as it applies.
_RULES = [
    _rule(
        rf"(?<![\w-])(?:plus\s+or\s+minus|plus\s*[-/]\s*minus|plus/minus)\s+{A}", lambda m, v: rf"\pm {_group(v[0])}"
    ),
    _rule(rf"{A}\s+factorial\b", lambda m, v: f"{_group(v[0])}!"),
    _rule(rf"{A}\s+(squared|cubed)\b", lambda m, v: f"{_group(v[0])}^{_POWERS[m[2].lower()]}"),
    _rule(
        rf"{A}\s+(?:raised\s+)?to\s+the\s+(?:power\s+(?:of\s+)?)?{A}(?!\w)",
        lambda m, v: f"{_group(v[0])}^{{{v[1]}}}",
    ),
    _rule(
        rf"{A}\s+(?:raised\s+)?to\s+the\s+(second|third|fourth|fifth)(?:\s+power)?\b",
        lambda m, v: f"{_group(v[0])}^{_POWERS[m[2].lower()]}",
    ),
    _rule(rf"{A}\s+choose\s+{A}", lambda m, v: rf"\binom{{{v[0]}}}{{{v[1]}}}"),
    _rule(
        rf"(?<![\w-])(?:the\s+)?(square|cube)\s+root{_OF}{A}",
        lambda m, v: rf"\sqrt{'[3]' if m[1].lower() == 'cube' else ''}{{{v[0]}}}",
    ),
    _rule(rf"(?<![\w-])(?:the\s+)?(square|cube)\s+of\s+{A}", lambda m, v: f"{_group(v[0])}^{_POWERS[m[1].lower()]}"),
    _rule(rf"(?<![\w-])(?:the\s+)?factorial\s+of\s+{A}", lambda m, v: f"{_group(v[0])}!"),
    _rule(rf"(?<![\w-])(?:the\s+)?reciprocal\s+of\s+{A}", lambda m, v: rf"\frac{{1}}{{{v[0]}}}"),
    _rule(
        rf"(?<![\w-])(?:one[\s-]|an?\s+|the\s+)?(half|third|quarter|fourth|fifth|sixth|eighth|tenth)\s+(?:of\s+){A}"
        rf"|(?<![\w-])(half)\s+{A}",
        lambda m, v: rf"\frac{{{v[0]}}}{{{_FRACTIONS[(m[1] or m[3]).lower()]}}}",
    ),
    _rule(
        rf"(?<![\w-])(?:the\s+)?(twice|double|thrice|triple|quadruple){_OF}{A}",
        lambda m, v: rf"{_FOLDS[m[1].lower()]} \cdot {_group(v[0])}",
    ),
    _rule(rf"{A}\s+(?:times|multiplied\s+by)\s+{A}", lambda m, v: rf"{_group(v[0])} \cdot {_group(v[1])}"),
    _rule(rf"{A}\s+(?:divided\s+by|over)\s+{A}", lambda m, v: rf"\frac{{{v[0]}}}{{{v[1]}}}"),
    _rule(rf"{A}\s+plus\s+{A}", lambda m, v: f"{v[0]} + {_group(v[1])}"),
    _rule(rf"{A}\s+minus\s+{A}", lambda m, v: f"{v[0]} - {_group(v[1])}"),
    _rule(
        rf"(?<![\w-])(?:the\s+)?(?:negative|opposite|additive\s+inverse)\s+of\s+{A}|(?<![\w-])(?:negative"
        rf"|minus)\s+{A}",
        lambda m, v: f"-{_group(v[0])}",
    ),
    _rule(rf"(?<![\w-])(?:the\s+)?sum\s+of\s+{A}\s+and\s+{A}", lambda m, v: f"{v[0]} + {_group(v[1])}"),
    _rule(
        rf"(?<![\w-])(?:the\s+)?product\s+of\s+{A}\s+and\s+{A}",
        lambda m, v: rf"{_group(v[0])} \cdot {_group(v[1])}",
    ),
    _rule(
        rf"(?<![\w-])(?:the\s+)?(?:positive\s+)?difference\s+(?:of|between)\s+{A}\s+and\s+{A}",
        lambda m, v: rf"\left|{v[0]} - {_group(v[1])}\right|",
    ),
    _rule(rf"(?<![\w-])(?:the\s+)?quotient\s+of\s+{A}\s+and\s+{A}", lambda m, v: rf"\frac{{{v[0]}}}{{{v[1]}}}"),
]
# Words of an operation that no rule took: the value beside them is not the answer.
_BEFORE = re.compile(
    r"(?<![A-Za-z])(?:of|(?:divid|multipl)\w+\s+by|plus|minus|times|negative|half|twice|double|thrice|triple"
    r"|root|square|cube|log|choose|over|per|power|divided|multiplied"
    r"|mitad\s+de|doble\s+de|tercio\s+de|ra[i\u00ed]z(?:\s+cuadrada)?\s+de|negativo|menos"
    r"|moiti[e\u00e9]\s+de|double\s+de|racine(?:\s+carr[e\u00e9]e)?\s+de|moins"
    r"|h[a\u00e4]lfte\s+von|doppelte\s+von|wurzel\s+(?:aus|von)|zweimal|halb|halbe|minus"
    r"|\u043f\u043e\u043b\u043e\u0432\u0438\u043d\w*(?:\s+\u043e\u0442)?"
    r"|\u043a\u043e\u0440\u0435\u043d\u044c\s+(?:\u0438\u0437)?|\u043c\u0438\u043d\u0443\u0441"
    r"|\u0443\u0434\u0432\u043e\u0435\u043d\w*)\s*$|(?:\u8d1f|\u8ca0|\u4e00\u534a|\u6839\u53f7|\u6839\u865f"
    r"|\u5e73\u65b9\u6839)$",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s*(?:(?:plus|minus|times\s+(?:the|as|that|more|his|her|its|their|what|bigger|larger|greater|\d"
    r"|[\ue000-\uf8ff])|choose|squared|cubed|factorial|modulo|mod|divided|multiplied|raised|to\s+the|halves"
    r"|thirds|quarters|fourths|fifths|sixths"
    r"|sevenths|eighths|ninths|tenths|hundredths|thousandths|digits?|digit\s+number|fold|dozens?|short\s+of"
    r"|away\s+from|too\s+(?:many|few|much|little|high|low|big|small))\b"
    r"|[-\u2010]\s?(?:digit|fold|th\b)|\^|\*\*\s?[\d\ue000-\uf8ff]"
    r"|[*/\u00d7\u00f7=<>\u2264\u2265\u2260]\s*[\d\ue000-\uf8ff]"
    r"|\u7684\u4e00\u534a|\u7684\u5e73\u65b9|\u7684\u500d|\u500d|\u4f4d\u6570|\u4f4d\u6578|\u7684|\u306e)",
    re.IGNORECASE,
)


def fold(words: str, values: list[str]) -> str:
    """The words with every operation that they name worked into a value; `values` grows by the new ones."""
    for pattern, write in _RULES:
        while match := pattern.search(words):
            operands = [values[ord(g) - FIRST] for g in match.groups() if g and len(g) == 1 and ord(g) >= FIRST]
            values.append(write(match, operands))
            words = f"{words[: match.start()]}{chr(FIRST + len(values) - 1)}{words[match.end() :]}"
    return words


def operated(before: str, after: str) -> bool:
    """Whether words beside a value name an operation on it, so that the value itself is not what is meant."""
    before = before.rstrip("*_`$ ")
    return _AFTER.match(after) is not None or (_BEFORE.search(before) is not None and not _harmless(before))


_OF_TOTAL = re.compile(
    r"\b(?:total|sum\s+total|value|cost|price|profit|average|mean|distance|length|height|width|weight|age"
    r"|speed|rate|amount|answer|result|area|volume|perimeter"
    r"|probability|output|balance|salary|change|loss|gain|discount|tip|score|median|mode|range|time|number"
    r"|count|solution|grand\s+total|savings?|revenue|earnings"
    r"|income|fee|bill|increase|decrease|temperature|mass|charge|payment|budget|figure|percentage|population"
    r"|wage|worth|supply|pace|reward|combined|combination|ratio)\s+of\s*$",
    re.IGNORECASE,
)


def _harmless(before: str) -> bool:
    """ "A total of 72" is 72: the noun names what the value is."""
    return _OF_TOTAL.search(before) is not None
