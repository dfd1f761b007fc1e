"""Tokens of an answer in LaTeX or plain form. Reads every character or refuses the whole."""

from __future__ import annotations

import re
from typing import NamedTuple

from app.verification.limits import MAX_TOKENS, TooLarge, Unreadable
from app.verification.units import COUNT_WORDS, LETTERS, PLAIN_LETTERS, UNITS
from app.verification.words import FUNCTIONS, GREEK, classify


class Token(NamedTuple):
    """kind: num, sym, const, fn, unit, noun, times, power, cmd, op, currency, end. `gap`: white space before it."""

    kind: str
    value: str
    gap: bool = False


_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<repeat>(?P<rw>\d*)\.(?P<rf>\d*)\\(?:overline|dot|bar)\s*\{?(?P<rr>\d+)\}?)
    | (?P<ellipsis>(?P<dw>\d*)\.(?P<df>\d{0,20}?)(?P<dr>\d{1,6}?)(?P=dr){2,}(?:\.\.\.|\s?\\[lc]?dots))
    | (?P<num>(?:
        (?P<euro>\d{1,3}(?:\.\d{3})+,\d+(?![\d,]) | \d{1,3}(?:\.\d{3}){2,}(?![\d.,]))
        | (?P<grouped>(?:[1-9]\d{0,2}(?:,\d{3})+ | \d{1,2}(?:,\d{2}){1,8},\d{3})(?![\d,]))(?:\.\d+)?
        | \d{1,3}(?:[ ]\d{3})+(?!\d)(?:\.\d+)?
        | \d+(?:\.\d+|\.(?![.\d]))?
        | \.\d+)
      (?:[eE][-+]?\d+(?![A-Za-z\d]))?)
    | (?P<cmd>\\(?:[A-Za-z]+\*?|.))
    | (?P<word>[A-Za-z]+)
    | (?P<foreign>[^\x00-\x7f]+)
    | (?P<op>\*\*|<=|>=|!=|==|=>|->|=<|[-+*/^_=<>()\[\]{}|!%,;:'&$"?])
    """,
    re.VERBOSE,
)
_TENS = re.compile(
    r"(twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)[- ](one|two|three|four|five|six|seven|eight|nine)\b",
    re.IGNORECASE,
)
_UNGROUPED = re.compile(r"\d+(?:\.\d+)?")
_BRACED = re.compile(r"\s*\{([^{}]*)\}")
_TEXTS = frozenset(
    [
        "text",
        "textbf",
        "textit",
        "textrm",
        "textsf",
        "texttt",
        "mathrm",
        "mathbf",
        "mathit",
        "mathsf",
        "mathtt",
        "mbox",
        "hbox",
        "operatorname",
        "operatorname*",
        "boldsymbol",
        "bm",
        "rm",
        "bf",
        "mathcal",
        "mathnormal",
        "underline",
    ]
)
_NAMES = frozenset(
    [
        "overline",
        "overrightarrow",
        "overleftarrow",
        "vec",
        "hat",
        "bar",
        "widehat",
        "tilde",
        "widetilde",
        "underline",
        "overarc",
        "wideparen",
        "dot",
    ]
)
_SPACES = {"mathbb", "mathbf"}
_ALIASES = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "nicefrac": "frac",
    "sfrac": "frac",
    "xfrac": "frac",
    "flatfrac": "frac",
    "slfrac": "frac",
    "frac*": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "leq": "le",
    "geq": "ge",
    "neq": "ne",
    "leqslant": "le",
    "geqslant": "ge",
    "lt": "<",
    "gt": ">",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "mid": "mid",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
    "colon": ":",
    "wedge": "land",
    "vee": "lor",
    "varnothing": "emptyset",
    "backslash": "setminus",
    "smallsetminus": "setminus",
    "dots": "ldots",
    "cdots": "ldots",
    "dotsc": "ldots",
    "to": "to",
    "rightarrow": "to",
    "ast": "*",
    "star": "*",
    "div": "/",
    "times": "*",
    "cdot": "*",
    "Re": "Re",
    "simeq": "approx",
    "cong": "approx",
    "sim": "approx",
    "doteq": "approx",
    "thickapprox": "approx",
    "lor": "or",
    "land": "and",
    "iff": "or",
    "i": "i",
    "dag": "'",
    "prime": "'",
    "degree": "circ",
    "ang": "angle",
    "rangle": ">>",
    "langle": "<<",
    "imath": "i",
    "bigcup": "cup",
    "lParen": "(",
    "lparen": "(",
    "rparen": ")",
    "Longrightarrow": "implies",
    "Rightarrow": "implies",
    "longrightarrow": "to",
    "in": "in",
    "R": "R",
    "Z": "Z",
    "N": "N",
    "Q": "Q",
    "C": "C",
}
_DROPPED = frozenset(
    [
        "limits",
        "nolimits",
        "displaystyle",
        "textstyle",
        "mathstrut",
        "left",
        "right",
        "quad",
        "qquad",
        "protect",
        "scriptstyle",
        "null",
    ]
)


def tokenise(text: str, *, split_commas: bool = False, letters: bool = False) -> list[Token]:
    """Tokens of the whole text.

    Commas between groups of three digits make one number outside brackets and separate members inside them;
    `split_commas` swaps the two. With `letters`, a single letter is a symbol and no unit. Raises Unreadable at a
    character that no answer has, TooLarge past the bounds.
    """
    lexer = _Lexer(split_commas, "\\" not in text, letters)
    lexer.read(text, in_text=False)
    tokens = lexer.tokens if letters else _letter_units(_compound(lexer.tokens))
    return [*tokens, Token("end", "")]


class _Lexer:
    def __init__(self, split_commas: bool, plain: bool, letters: bool) -> None:
        self.letters = letters
        self.tokens: list[Token] = []
        self.split_commas = split_commas
        self.plain = plain  # no command anywhere: braces are sets
        self.brackets = 0

    def push(self, kind: str, value: str, gap: bool) -> None:
        if len(self.tokens) >= MAX_TOKENS:
            raise TooLarge(f"more than {MAX_TOKENS} tokens")
        self.tokens.append(Token(kind, value, gap))

    def after_value(self) -> bool:
        """Whether a unit may follow here."""
        if not self.tokens:
            return False
        kind, value, _ = self.tokens[-1]
        return (
            kind in ("num", "unit", "times", "const", "power")
            or value in ("/", ")", "}", "currency")
            or (kind == "noun")
        )

    def read(self, text: str, *, in_text: bool) -> None:
        at, gap = 0, False
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise Unreadable(f"the character {text[at]!r}")
            kind = match.lastgroup
            at = match.end()
            if kind == "space":
                gap = True
                continue
            if kind == "cmd":
                at = self.command(match[0][1:], text, at, gap)
            elif match["num"] is not None:
                at = self.number(match, text, gap)
            elif match["repeat"] is not None:
                self.push("num", f"{match['rw'] or 0}.{match['rf']}({match['rr']})", gap)
            elif match["ellipsis"] is not None:
                self.push("num", f"{match['dw'] or 0}.{match['df']}({match['dr']})", gap)
            elif (tens := _TENS.match(text, match.start())) is not None:
                self.push("num", str(COUNT_WORDS[tens[1].lower()] + COUNT_WORDS[tens[2].lower()]), gap)
                at = tens.end()
            elif match[0] == "in" and text[at:].lstrip()[:1] in ("(", "[", "{", "\\"):
                self.push("op", "in", gap)
            elif match[0] == "a" and self.tokens and self.tokens[-1].kind == "noun":
                self.push("noun", "a", gap)
            elif self.letters and not in_text and len(match[0]) == 2 and match[0] in UNITS:
                for letter in match[0]:
                    self.push("sym", letter, False)
            elif match["word"] is not None:
                for i, (what, value) in enumerate(classify(match[0], after_value=self.after_value(), in_text=in_text)):
                    self.push(what, value, gap or i > 0)
            elif match["foreign"] is not None:
                self.push("noun", match[0], gap)
            else:
                self.operator(match[0], text, at, gap)
            gap = False

    def number(self, match: re.Match[str], text: str, gap: bool) -> int:
        """One number; grouped digits are taken together or only their first group, by the rule on commas."""
        raw = match[0]
        if match["grouped"] is not None and (self.brackets > 0) != self.split_commas:
            first = _UNGROUPED.match(text, match.start())
            assert first is not None  # a grouped number begins with digits
            self.push("num", first[0], gap)
            return first.end()
        if match["euro"] is not None:
            raw = raw.replace(".", "").replace(",", ".")
        self.push("num", raw.replace(",", "").replace(" ", ""), gap)
        return match.end()

    def operator(self, op: str, text: str, at: int, gap: bool) -> None:
        if op in "([" or (op == "{" and self.plain):
            self.brackets += 1
        elif op in ")]" or (op == "}" and self.plain):
            self.brackets -= 1
        if op == "$":
            if text[at:].lstrip()[:1].isdigit() or text[at : at + 1] in ("-", "."):
                self.push("currency", "dollar", gap)
            return
        if op == "?":
            raise Unreadable("a question")
        if op != '"':
            self.push(
                "op",
                {"**": "^", "<=": "le", ">=": "ge", "!=": "ne", "==": "=", "=<": "le", "=>": "implies", "->": "to"}.get(
                    op, op
                ),
                gap,
            )

    def command(self, name: str, text: str, at: int, gap: bool) -> int:
        """One LaTeX command; returns where reading goes on."""
        if name in _TEXTS or name in _NAMES:
            braced = _BRACED.match(text, at)
            if braced is not None:
                return self.text(name, braced, gap)
            if name in _NAMES and text[at:].lstrip()[:1].isdigit():
                raise Unreadable(f"\\{name} of a number")
            if name in _NAMES or name == "operatorname":
                return at
        if name == "mathbb":
            letter = re.compile(r"\s*\{?\s*([A-Z])\s*\}?").match(text, at)
            if letter is None:
                raise Unreadable("\\mathbb of no letter")
            self.push("cmd", letter[1], gap)
            return letter.end()
        if name in _DROPPED or name in _TEXTS:
            return at
        if name in FUNCTIONS:
            self.push("fn", FUNCTIONS[name], gap)
        elif name in GREEK:
            self.push("sym", name, gap)
        elif name in ("ei", "ej", "ek"):  # unit vectors, by normalise.py
            self.push("sym", f"\\{name[1]}", gap)
        elif name in ("pi", "infty"):
            self.push("const", "pi" if name == "pi" else "inf", gap)
        elif name in ("$", "euro", "pounds"):
            self.push("currency", {"$": "dollar", "euro": "euro", "pounds": "gbp"}[name], gap)
        elif name in "{}":
            self.brackets += 1 if name == "{" else -1
            self.push("op", "\\" + name, gap)
        elif name in ("%", "|", "_", "#", "&"):
            self.push("op", {"|": "||", "_": "_", "#": ",", "&": "and"}.get(name, name), gap)
        else:
            alias = _ALIASES.get(name, name)
            alias = {"{": "\\{", "}": "\\}"}.get(alias, alias)
            kind = (
                "op"
                if not alias.isalpha()
                or alias in ("le", "ge", "ne", "and", "or", "implies", "approx", "in", "to", "mid")
                else "cmd"
            )
            self.push(kind, alias, gap)
        return at

    def text(self, name: str, braced: re.Match[str], gap: bool) -> int:
        """`\\text{...}`: words, units or connectives. `\\overline{AB}`: one name."""
        content = braced[1]
        if name in _NAMES and name != "underline" and content.strip():
            self.push("sym", re.sub(r"[\s\\]", "", content), gap)
            return braced.end()
        before = len(self.tokens)
        upright = name in (
            "mathrm",
            "mathbf",
            "operatorname",
            "operatorname*",
            "mathit",
            "boldsymbol",
            "bm",
            "mathcal",
            "mathnormal",
            "rm",
            "mathsf",
        )
        self.read(
            content, in_text=not (upright and len(content.strip()) == 1 and not self.after_value()) or name == "text"
        )
        if gap and len(self.tokens) > before:
            self.tokens[before] = self.tokens[before]._replace(gap=True)
        return braced.end()


def _compound(tokens: list[Token]) -> list[Token]:
    """`1 h 30 min`, `1h30m`: numbers and time or length units by turns, where single letters are units too."""
    if not 4 <= len(tokens) <= 8 or len(tokens) % 2 or any(t.kind != "num" for t in tokens[::2]):
        return tokens
    names = [t.value for t in tokens[1::2]]
    if not all(t.kind == "unit" or (t.kind == "sym" and t.value in _COMPOUND) for t in tokens[1::2]):
        return tokens
    if "h" in names or "hour" in names:
        names = ["min" if name == "m" else name for name in names]
    units = [Token("unit", LETTERS.get(name, name), True) for name in names]
    return [token for pair in zip(tokens[::2], units, strict=True) for token in pair]


_COMPOUND = frozenset("mgsh")


def _letter_units(tokens: list[Token]) -> list[Token]:
    """A letter such as `m` set apart after a number is a unit, where nothing but the unit follows."""
    named = len(tokens) > 1 and tokens[0].kind == "sym" and tokens[1].value in ("=", "approx")
    start = 2 if named else 0
    body = tokens[start:]
    if any(t.kind in ("sym", "fn") and t.value not in PLAIN_LETTERS for t in body) or (
        body and body[0].kind in ("sym", "fn")
    ):
        return tokens
    out = list(tokens)
    for i in range(start + 1, len(tokens)):
        kind, value, gap = tokens[i]
        if kind != "sym" or value not in PLAIN_LETTERS:
            continue
        before = tokens[i - 1]
        if before.value == "/" and i > start + 1 and tokens[i - 2].kind == "unit":
            out[i] = Token("unit", LETTERS[value], gap)
        elif gap and before.kind == "num" and tokens[i - 2].value not in ("^", "_") and _only_units(tokens[i + 1 :]):
            for j in range(i, len(tokens)):
                if tokens[j].kind == "sym":
                    out[j] = Token("unit", LETTERS[tokens[j].value], True)
            break
    return out


def _only_units(rest: list[Token]) -> bool:
    """Whether nothing but units, their quotients and exponents stands here: `/s^{2}`."""
    for i, token in enumerate(rest):
        if token.value in ("/", "^", "{", "}") or token.value in PLAIN_LETTERS or token.kind == "unit":
            continue
        previous = rest[i - 1].value if i else ""
        if token.value not in ("-", "1", "2", "3") or previous not in ("^", "{", "-"):
            return False
        if previous == "-" and (i < 2 or rest[i - 2].value not in ("^", "{")):
            return False
    return True
