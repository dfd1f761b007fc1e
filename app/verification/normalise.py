"""One spelling for what Unicode and LaTeX spell in many ways, before the lexer."""

from __future__ import annotations

import re
import unicodedata

from app.verification.clauses import unwrap
from app.verification.limits import Unreadable
from app.verification.notation import set_in_words, written_out

_SYMBOLS = {
    "\u2212": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2010": "-",
    "\u2011": "-",
    "\ufe63": "-",
    "\uff0d": "-",
    "\u00d7": r"\times ",
    "\u00f7": r"\div ",
    "\u00b7": r"\cdot ",
    "\u22c5": r"\cdot ",
    "\u2219": r"\cdot ",
    "\u2217": "*",
    "\u2215": "/",
    "\u2044": "/",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2a7d": r"\le ",
    "\u2a7e": r"\ge ",
    "\u2260": r"\ne ",
    "\u2248": r"\approx ",
    "\u2245": r"\approx ",
    "\u2261": r"\equiv ",
    "\u221e": r"\infty ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2208": r"\in ",
    "\u2209": r"\notin ",
    "\u2216": r"\setminus ",
    "\u2205": r"\emptyset ",
    "\u221a": r"\sqrt ",
    "\u221b": r"\cbrt ",
    "\u00b1": r"\pm ",
    "\u2213": r"\mp ",
    "\u00b0": r"^\circ ",
    "\u00ba": r"^\circ ",
    "\u2032": "'",
    "\u2019": "'",
    "\u2018": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2026": r"\ldots ",
    "\u22ef": r"\ldots ",
    "\u27e8": r"\langle ",
    "\u27e9": r"\rangle ",
    "\u230a": r"\lfloor ",
    "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ",
    "\u2309": r"\rceil ",
    "\u2223": "|",
    "\u211d": r"\mathbb{R}",
    "\u2124": r"\mathbb{Z}",
    "\u2115": r"\mathbb{N}",
    "\u211a": r"\mathbb{Q}",
    "\u2102": r"\mathbb{C}",
    "\u2211": r"\sum ",
    "\u220f": r"\prod ",
    "\u222b": r"\int ",
    "\u2192": r"\to ",
    "\u2227": r"\land ",
    "\u2228": r"\lor ",
    "\u03c0": r"\pi ",
    "\U0001d6d1": r"\pi ",
    "\u00a2": " cents ",
    "\u20ac": r"\euro ",
    "\u00a3": r"\pounds ",
    "\uff0c": ",",
    "\u3001": ",",
    "\u00a0": " ",
    "\u202f": " ",
    "\u2009": " ",
    "\u2007": " ",
    "\u2220": r"\angle ",
    "\u25b3": r"\triangle ",
    "\u2236": ":",
    "\uff1a": ":",
    "\u2237": ":",
    "\u066b": ".",
    "\u066c": ",",
    "\u00b5": r"\mu ",
    "\u2206": r"\Delta ",
    "\u2113": "l",
    "\ufe6a": "%",
    "\u066a": "%",
}
_GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "ζ": "zeta",
    "η": "eta",
    "θ": "theta",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
    "ν": "nu",
    "ξ": "xi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "phi",
    "ϕ": "phi",
    "χ": "chi",
    "ψ": "psi",
    "ω": "omega",
    "Γ": "Gamma",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Π": "Pi",
    "Σ": "Sigma",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
}
_TRANSLATE = str.maketrans({**_SYMBOLS, **{k: f"\\{v} " for k, v in _GREEK.items()}})
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾⁄", "0123456789+-nx()/")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙₓᵢⱼₖ", "0123456789+-nxijk")
_SUPERS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾]+")
_SUBS = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙₓᵢⱼₖ]+")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e\u2189]")
_SPACING = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits|boxed|fbox|box|mathstrut|!)(?![A-Za-z])\s*|\\h?space\s*\{[^{}]*\}|"
    r"\\(?:phantom|label|tag)\s*\{[^{}]*\}"
)
_SPACE = re.compile(r"\\(?:,|;|:|>| |\n|q?quad(?![A-Za-z])|enspace(?![A-Za-z])|thinspace(?![A-Za-z]))|~|&nbsp;")
_GROUP_COMMA = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,|,\\,|\{\\,\})\s*(?=\d{3}(?!\d))")
_INDIAN_COMMA = re.compile(r"(?<![\d,}])\d{1,2}(?:\{,\}\d{2})+\{,\}\d{3}(?!\d)")
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_ZERO_COMMA = re.compile(r"(?<![\d.,}])0\{,\}(?=\d)")
_APOSTROPHE = re.compile(r"(?<=\d)'(?=\d{3}(?!\d))")
_ALL_REALS = re.compile(r"(?:\\text\s*\{\s*)?\ball (?:the )?real(?:s\b|\s+numbers?)(?:\s*\})?", re.IGNORECASE)
_DECLARED = re.compile(r"\(\s*([a-z](?:,\s*[a-z])?\s*\\in\s*(?:\\mathbb\s*)?\{?\s*[ZNR]\b[^()]{0,8})\)\s*$")
_FILLER = re.compile(
    r"^(?:(?:the|my|our)?\s*(?:final|correct)?\s*answers?\s*(?:is|are|:|=)+|(?:approximately|about|around|roughly|exactly|only|just|"
    r"therefore|thus|hence|so|is|are)(?=[\s$\\\d-])|\\approx|\\therefore|\\implies|\\Rightarrow|=|\\sim|:)\s*",
    re.IGNORECASE,
)


def unicode_to_latex(text: str) -> str:
    """ASCII and LaTeX for Unicode digits, fractions, superscripts, roots, signs and letters of mathematics."""
    text = _VULGAR.sub(_vulgar, text)
    text = _SUPERS.sub(lambda m: "^{" + m[0].translate(_SUPER) + "}", text)
    text = _SUBS.sub(lambda m: "_{" + m[0].translate(_SUB) + "}", text)
    text = text.translate(_TRANSLATE)
    if text.isascii():
        return text
    out = []
    for char in unicodedata.normalize("NFKC", text).translate(_TRANSLATE):
        if char.isascii():
            out.append(char)
        elif (digit := unicodedata.decimal(char, None)) is not None:
            out.append(str(digit))
        elif unicodedata.category(char) != "Cf":  # invisible marks: direction, joiners
            out.append(char)
    return "".join(out)


def _vulgar(match: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[0]).split("\u2044")
    return rf" \frac{{{top}}}{{{bottom}}}" if bottom else match[0]


def normalise(text: str) -> str:
    """The answer without delimiters, spacing commands, sizing commands and lead-in words.

    Raises Unreadable for control characters, which no answer has.
    """
    if not text.isascii():
        text = unicode_to_latex(text)
    if not text.isprintable() and any(ord(c) < 32 and c not in "\n\t\r" for c in text):
        raise Unreadable("a control character")
    text = unwrap(text)
    text = written_out(text)
    if "\\" in text or "'" in text or "{" in text or "~" in text or "&" in text:
        if "{,}" in text:
            text = _INDIAN_COMMA.sub(lambda match: match[0].replace("{,}", ""), text)
            text = _DECIMAL_COMMA.sub(".", _GROUP_COMMA.sub(",", _ZERO_COMMA.sub("0.", text)))
        text = _GROUP_COMMA.sub(",", text)
        text = _APOSTROPHE.sub(",", text)
        text = text.replace("\\\\", " \\newline ")
        text = _SPACE.sub(" ", _SPACING.sub("", text))
        text = unwrap(text.strip())
    text = set_in_words(text)
    text = _ALL_REALS.sub(r"\\mathbb{R}", text)
    text = _DECLARED.sub(r", \1", text)
    before = None
    while before != text:
        before = text
        text = _FILLER.sub("", text, count=1)
    text = text.strip().rstrip(";,").strip()
    return unwrap(text)
