"""Phrases that announce an answer, in several languages: "the answer is", "Respuesta:", "答案是"."""

from __future__ import annotations

import re

_ENGLISH = re.compile(
    r"\b(?:ans(?:wers?)?(?:\s+(?:to|for|of|in|that|we|here)\b[^.:\n=?]{0,100}?|\s+therefore|\s+thus"
    r"|\s+choice)?|(?:correct|right|best)\s+(?:option|choice))\**\s*"
    r"(?:(?:is|are|was|equals|should be|would be|must be|will be|comes? (?:out )?to(?: be)?)\b"
    r"(?:\s+(?:therefore|thus|now|then|simply|just|"
    r"clearly|approximately|about|equal to|given by|as follows|exactly|indeed|option|choice))*"
    r"\s*[,:]?|[:\uff1a=]|=>|->|\n)\s*\**",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"\brespuesta(?:\s+(?:final|correcta))?\s*(?:\*\*)?\s*(?:es|:|=)\**\s*"
    r"|\br[e\u00e9]ponse(?:\s+(?:finale|correcte))?\s*(?:\*\*)?\s*(?:est|:|=)\**\s*"
    r"|\bantwort\s*(?:\*\*)?\s*(?:ist|lautet|:|=)\**\s*|\bantwoord\s*(?:\*\*)?\s*(?:is|:|=)\**\s*"
    r"|\bresposta(?:\s+(?:final|correta))?\s*(?:\*\*)?\s*(?:\xe9|:|=)\**\s*|\brisposta(?:\s+(?:finale"
    r"|corretta))?\s*(?:\*\*)?\s*(?:\xe8|:|=)\**\s*"
    r"|\bjibu\s+(?:ni|:)\s*|\bjawaban(?:nya)?\s*(?:adalah|:)\s*|\b(?:cevap|yan\u0131t)\s*:?\s*"
    r"|\bodpowied\u017a\s*(?:to|:)\s*"
    r"|(?:\u0111\u00e1p \u00e1n|c\u00e2u tr\u1ea3 l\u1eddi)\s*(?:l\u00e0|:)\s*"
    r"|\u043e\u0442\u0432\u0435\u0442\s*(?:\*\*)?\s*(?:[:=\u2014\u2013-]|\u0440\u0430\u0432\u0435\u043d"
    r"|\u044d\u0442\u043e|\u0431\u0443\u0434\u0435\u0442)\**\s*(?:[:\u2014\u2013]\s*)?"
    r"|\u7b54\u6848?(?:\u662f|\u4e3a|\u70ba|\u3048?\u306f|[:\uff1a])+\s*|\u7b54\u3048?(?:\u306f"
    r"|[:\uff1a])\s*|(?:\uc815\ub2f5|\ub2f5)(?:\uc740|[:\uff1a])\s*"
    r"|\u0e04\u0e33\u0e15\u0e2d\u0e1a(?:\u0e04\u0e37\u0e2d|[:\uff1a])\s*"
    r"|\u0989\u09a4\u09cd\u09a4\u09b0(?:\s+\u09b9\u09b2|\s*:)?\s*"
    r"|\u0c38\u0c2e\u0c3e\u0c27\u0c3e\u0c28\u0c02\s*:?\s*|\u0909\u0924\u094d\u0924\u0930(?:\s+\u0939\u0948"
    r"|\s*:)?\s*"
    r"|(?:\u0627\u0644\u062c\u0648\u0627\u0628"
    r"|\u0627\u0644\u0625\u062c\u0627\u0628\u0629)(?:\s+\u0647[\u0648\u064a]|\s*:)?\s*",
    re.IGNORECASE,
)
_QUICK = re.compile(
    r"[Rr]espuesta|[Rr][e\u00e9]ponse|[Aa]ntwoo?r|[Rr]esposta|[Rr]isposta|[Jj]ibu|[Jj]awaban|[^\x00-\u02ff\u2000-\u2fff]"
)


def last_anchor(text: str) -> re.Match[str] | None:
    """The last place where a phrase announces an answer."""
    found: list[re.Match[str]] = []
    if "ns" in text or "NS" in text or "ption" in text or "hoice" in text:
        found = list(_ENGLISH.finditer(text))
    if _QUICK.search(text):
        found += _ELSEWHERE.finditer(text)
    return max(found, key=lambda m: m.end(), default=None)
