"""Notations that have a plainer spelling: `+/-`, `5 x 10^3`, `(52)_8`, `0x2A`, `\\hat{i}`, "all reals except 2"."""

from __future__ import annotations

import re

from app.verification.macros import expanded
from app.verification.numerals import figures

_SCIENTIFIC = re.compile(r"(?<=\d)\s?[xX]\s?(?=10\s?(?:\^|\*\*))")
_PLUS_MINUS = re.compile(r"\+\s*/\s*-|(?:(?<=[=(,\[{\s])|^)\+-(?=\s|[\d.\\a-z])|\+-(?=\s|\\?sqrt)")
_D = r"(?:\\(?:mathrm|text|operatorname)\s*\{\s*d\s*\}|d)"
_DERIVATIVE = re.compile(
    rf"\\[dt]?frac\s*\{{\s*{_D}\s*(?:\^\s*\{{?\s*([23])\s*\}}?\s*)?([A-Za-z])\s*\}}\s*"
    rf"\{{\s*{_D}\s*([A-Za-z])\s*(?:\^\s*\{{?\s*([23])\s*\}}?\s*)?\}}"
)
_PLAIN_DERIVATIVE = re.compile(r"(?<![A-Za-z])d(?:\^([23]))?\s?([A-Za-z])\s?/\s?d([A-Za-z])(?:\^([23]))?(?![A-Za-z])")
_OF_X, _OF_T = frozenset("yfghuwzFGH"), frozenset("xsvrqPNQAVSTC")  # what each letter is usually a function of
_DOTS = re.compile(r"(?<=[,\s({])\.\.\.(?=[,\s)}]|$)")
_MINUS_PLUS = re.compile(r"-\s*/\s*\+")
_BRACED_NAME = re.compile(r"(?<![A-Za-z}\]_^\\])\{([A-Za-z]|\\[a-z]+)\}(?=\s*_)")
_BRACKETED_DIGITS = re.compile(r"(?<![A-Za-z\d)}])\(\s*([0-9A-Fa-f]+)\s*\)\s*(?=_)")
_BASE = re.compile(
    r"\b([0-9A-F]*\d[0-9A-F]*)(?:\s*\\text\s*\{)?\s*,?\s*\(?\s*(?:in |to )?base[- ]*\{?"
    r"(\d{1,2}|two|three|eight|ten|sixteen)\b\s*\}?\s*\)?\s*\}?",
    re.IGNORECASE,
)
_PREFIXED = re.compile(r"\b0([xXbBoO])([0-9A-Fa-f]+)\b")
_UNIT_VECTOR = re.compile(
    r"\\(?:hat|mathbf|boldsymbol|bm|vec|widehat|textbf)\s*"
    r"(?:\{\s*(?:\\(?:hat|mathbf|boldsymbol|bm|vec|widehat)\s*(\{)?\s*)?(?:\\([ij])math|([ijk]))\s*(?(1)\})\s*\}"
    r"|(?:\\([ij])math|([ijk]))(?![A-Za-z]))"
)
_TRANSPOSED = re.compile(
    r"\^\s*(?:\{\s*)?(?:\\(?:top|intercal)(?![A-Za-z])|\\(?:mathsf|mathrm|text|mathit)\s*\{?\s*T\s*\}?)\s*(\})?"
)
_CHOOSING = re.compile(r"(?<![A-Za-z\\])n?C\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_REPEATING = re.compile(r"(?<![\d.])(\d+\.\d*)\((\d{1,20})\)")
_CHOOSE = re.compile(r"(?:(?<![A-Za-z\d)}\]])|\{\})\s*[_^]\s*\{?(\d+)\}?\s*C\s*_\s*\{?(\d+)\}?")
_RADIX = {"x": 16, "b": 2, "o": 8}
_MAX_NAMED = 120  # characters of a set named in words
_NAMED_SET = re.compile(
    r"(?:\\text\s*\{\s*)?(?:x is )?(?:all|any|every|the set of(?: all)?)\s+(?:the )?"
    r"(positive|negative|non-?\s?negative|non-?\s?positive|non-?\s?zero)?\s*"
    r"(reals?(?: numbers?)?|integers?|natural numbers?|naturals|rationals?(?: numbers?)?|whole numbers?)\s*\}?"
    r"(?:,?\s*(?:\\text\s*\{\s*)?"
    r"(?:except|but|other than|excluding|not equal to)(?: for)?\s*\}?"
    r"\s*(?:x\s*=\s*)?\$?([-\d.,/\s]+?(?:and[-\d.,/\s]+?)?)"
    r"\$?)?\s*\}?",
    re.IGNORECASE,
)
_COMPARED = {
    "greater than": ">",
    "more than": ">",
    "larger than": ">",
    "less than": "<",
    "smaller than": "<",
    "greater than or equal to": r"\ge",
    "less than or equal to": r"\le",
    "at least": r"\ge",
    "at most": r"\le",
    "not equal to": r"\ne",
}
_BOUNDED = re.compile(
    r"(?:all (?:real )?numbers|all reals|all real values(?: of [a-z])?|([a-z]) is)(?: that are)? "
    rf"({'|'.join(sorted(_COMPARED, key=len, reverse=True))}) \$?(-?\d+(?:\.\d+)?(?:/\d+)?)\$?",
    re.IGNORECASE,
)
_SIGNS = {
    "": "",
    "positive": "^+",
    "negative": "^-",
    "nonnegative": r"_{\ge 0}",
    "nonpositive": r"_{\le 0}",
    "nonzero": "^*",
}


def written_out(text: str) -> str:
    """Notations with a plainer spelling: siunitx, `+/-`, `5 x 10^3`, `(52)_8`, `0x2A`, `1011 (base 2)`, words."""
    if "\\" in text:
        text = _UNIT_VECTOR.sub(lambda m: f"\\e{m[2] or m[3] or m[4] or m[5]} ", expanded(text))
        if "T" in text or "\\top" in text or "\\intercal" in text:
            text = _TRANSPOSED.sub(_transpose, text)
        if "frac" in text and "d" in text:
            text = _DERIVATIVE.sub(_primed, text)
    if "d" in text and "/d" in text:
        text = _PLAIN_DERIVATIVE.sub(_primed, text)
    if "+" in text:
        text = _MINUS_PLUS.sub(r"\\mp ", _PLUS_MINUS.sub(r"\\pm ", text))
    if "..." in text:
        text = _DOTS.sub(r"\\ldots ", text)
    if "10" in text:
        text = _SCIENTIFIC.sub(r"\\times ", text)
    if "(" in text:
        text = _CHOOSING.sub(r"\\binom{\1}{\2}", _REPEATING.sub(r"\1\\overline{\2}", text))
    if "_" in text:
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", _BRACKETED_DIGITS.sub(r"\1", _BRACED_NAME.sub(r"\1", text)))
    if " cent" in text:
        text = text.replace("per cent", "percent")
    if "ase" in text:
        text = _BASE.sub(r"\1_{\2}", text)
    if "0" in text:
        text = _PREFIXED.sub(lambda match: f"{match[2]}_{{{_RADIX[match[1].lower()]}}}", text)
    return figures(text)


def _primed(match: re.Match[str]) -> str:
    """`y'` for `\\frac{dy}{dx}`, where no other variable could be meant by the prime."""
    order, name, variable, below = match.groups()
    usual = (variable == "x" and name in _OF_X) or (variable == "t" and name in _OF_T)
    return f" {name}{chr(39) * int(order or 1)} " if usual and order == below else match[0]


def set_in_words(text: str) -> str:
    """Sets named in words, where they are the whole answer: "all positive integers", "all reals except 2"."""
    bounded = _BOUNDED.fullmatch(text) if len(text) <= _MAX_NAMED else None
    if bounded is not None:
        return f"{bounded[1] or 'x'} {_COMPARED[bounded[2].lower()]} {bounded[3]}"
    match = _NAMED_SET.fullmatch(text) if len(text) <= _MAX_NAMED else None
    if match is None:
        return text
    sign = _SIGNS[(match[1] or "").lower().replace(" ", "").replace("-", "")]
    kind = match[2].lower()
    space = "N" if kind.startswith("n") else "Z" if kind.startswith(("i", "w")) else "Q" if "ra" in kind[:2] else "R"
    if kind.startswith("w"):
        sign = r"_{\ge 0}"
    found = rf"\mathbb{{{space}}}{sign}"
    return found if match[3] is None else rf"{found} \setminus \{{{re.sub(r'[ ,]*(?:and|or)[ ]*', ',', match[3])}\}}"


def _transpose(match: re.Match[str]) -> str:
    """`^T` for what is written `^\\top`, `^{\\mathsf{T}}`; braces that stay open are left to be refused."""
    opened, closed = match[0].count("{"), match[0].count("}")
    return "^T" if opened == closed else match[0]
