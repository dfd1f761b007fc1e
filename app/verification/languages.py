"""The connecting words of other languages in English: "7 o quizás 8" is "7 or maybe 8", "7 tausend" is "7 thousand".

Only words that bear on a number are turned; what is left of a sentence stays as it is, and names and units with it.
"""

from __future__ import annotations

import re

_WORDS = {
    "exactly": "exactamente exactement genau exatamente esattamente ровно precisamente",
    "equal to": "igual\\s+a égale?\\s+à gleich(?=\\s+[\\d$]) равно равен равна uguale\\s+a",
    "therefore": (
        "por\\s+lo\\s+tanto entonces por\\s+tanto así\\s+que donc alors folglich somit "
        "daher deshalb portanto logo quindi dunque значит следовательно поэтому"
    ),
    "because": (
        "porque ya\\s+que puesto\\s+que parce\\s+que puisque weil denn poiché perché потому\\s+что так\\s+как поскольку"
    ),
    "which": "lo\\s+que lo\\s+cual ce\\s+qui was(?=\\s+(?:falsch|richtig|nicht)) o\\s+que il\\s+che что",
    "and": "und et et\\s+aussi и",
    "or": "oder ou или либо oppure",
    "maybe": "quizás? tal\\s+vez peut-être vielleicht talvez forse возможно может\\s+быть",
    "thousand": "mille tausend тысяч[аи]? mila",
    "million": "millones millón millionen milhões milhão milioni миллион(?:ов|а)?",
    "billion": "milliards? milliarden? миллиард(?:ов|а)?",
    "percent": "por\\s+ciento pour\\s+cent prozent por\\s+cento per\\s+cento процент(?:ов|а)?",
    "squared": "al\\s+cuadrado au\\s+carré (?:im|zum|ins)\\s+quadrat ao\\s+quadrado al\\s+quadrato в\\s+квадрате",
    "cubed": "al\\s+cubo au\\s+cube ao\\s+cubo в\\s+кубе",
    "half of": (
        "(?:la\\s+)?mitad\\s+de (?:la\\s+)?moitié\\s+de (?:die\\s+)?hälfte\\s+von "
        "(?:a\\s+)?metade\\s+de (?:la\\s+)?metà\\s+di половин[аеу]\\s+от"
    ),
    "twice": (
        "(?:el\\s+)?doble\\s+de (?:le\\s+)?double\\s+de (?:das\\s+)?doppelte\\s+von "
        "(?:o\\s+)?dobro\\s+de (?:il\\s+)?doppio\\s+di удвоенное"
    ),
    "square root of": (
        "(?:la\\s+)?raíz\\s+cuadrada\\s+de (?:la\\s+)?racine\\s+carrée\\s+de "
        "(?:die\\s+)?(?:quadrat)?wurzel\\s+(?:aus|von) (?:квадратный\\s+)?корень\\s+из"
    ),
    "negative": "negativo",
    "minus": "минус",
    "to the power of": "hoch",
    "between": "entre zwischen между",
    "per hour": "por\\s+hora par\\s+heure pro\\s+stunde в\\s+час all'ora",
    "dollars": "dólares долларов доллара доллар dollari",
}
_AFTER_NUMBER = {"or": "o", "and": "y", "thousand": "mil"}  # too short to be turned anywhere else
_SIGNS = str.maketrans(
    {"，": ", ", "。": ". ", "（": " (", "）": ")", "？": "? ", "：": ": ", "；": "; ", "、": ", ", "！": "! "}
)
_CJK = (
    ("正好", " exactly "),
    ("恰好", " exactly "),
    ("一共", " "),
    ("总共", " "),
    ("因为", " because "),
    ("所以", " so "),
    ("因此", " so "),
    ("或者", " or "),
    ("或", " or "),
    ("和", " and "),
)
_TURNED = [
    (re.compile(rf"(?<![\w'’])(?:{'|'.join(other.split(' '))})(?![\w])", re.IGNORECASE), english)
    for english, other in _WORDS.items()
]
_TURNED += [
    (re.compile(rf"(?<=[\d$%])(,?)\s{other}(?=\s[\w$]|\s*[.,;)]|\s*$)"), rf"\1 {english}")
    for english, other in _AFTER_NUMBER.items()
]
_CAR = re.compile(r"(?<=[\d$])\scar\s(?=\d|il\b|elle\b|on\b|l[ae]s?\b|c'|\$)")
_ANY = re.compile("|".join(pattern.pattern for pattern, _ in _TURNED) + "|" + _CAR.pattern, re.IGNORECASE)
_BESIDE = re.compile(
    r"(?<=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3])(?=[-\u2212$]?\d)|(?<=\d)(?=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3])"
)
_WIDE = re.compile(r"[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uff65]")


def turned(text: str) -> str:
    """The text with the connecting words of other languages in English."""
    if _WIDE.search(text):
        text = text.translate(_SIGNS)
        for other, english in _CJK:
            text = text.replace(other, english)
        text = _BESIDE.sub(" ", text)
    if _ANY.search(text) is None:
        return text
    for pattern, english in _TURNED:
        text = pattern.sub(english, text)
    return _CAR.sub(" because ", text)
