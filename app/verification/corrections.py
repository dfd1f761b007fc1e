"""What a trace says of its answer after it: that it stands, that it is wrong, or what it should be instead."""

from __future__ import annotations

import re

from app.verification.sentence import masked, read

WITHDRAWN = "withdrawn"
_REACH = 1_500
_A = "[\ue000-\uf8ff]"
_SENTENCE = re.compile(r"[^.!?;\n\u3002\uff1f\uff01]*(?:[.!?;\n\u3002\uff1f\uff01]+|$)")
_QUICK = re.compile(
    r"wrong|incorrect|mistak|error|slip|ignor|disregard|scratch|retract|forget|discard|withdraw|take\s+(?:it"
    r"|that)\s+back|never\s?mind|fail|not\s|n['\u2019]t\s"
    r"|sorry|oops|wait|actually|correction|should|meant|mean\b|rather|on\s+second|on\s+reflection|redo"
    r"|start\s+over|recheck|false|no\b|hmm"
    r"|equivoc|incorrecto|falso|perd[o\u00f3]n|deb[e\u00ed]|quise|ignor|faux|erreur|d[e\u00e9]sol|pardon"
    r"|falsch|fehler|irrtum|entschuld|sollte|vergiss|ignorier"
    r"|\u043d\u0435\u0432\u0435\u0440\u043d|\u043d\u0435\u043f\u0440\u0430\u0432|\u043e\u0448\u0438\u0431"
    r"|\u0438\u0437\u0432\u0438\u043d|\u4e0d|\u9519|\u932f|\u62b1\u6b49|\u5e94|\u61c9|\u66f4\u6b63"
    r"|\u4fee\u6b63",
    re.IGNORECASE,
)
_ADVERBS = (
    r"(?:(?:all|also|clearly|actually|definitely|obviously|simply|still|just|completely|totally|surely"
    r"|certainly|probably|likely|quite|of\s+course|unfortunately|in\s+fact)\s+)*"
)
_IT = (
    rf"(?:that|this|it|which|(?:the|my|this|that)\s+(?:\w+\s+){{0,2}}?(?:answer|result|value|above|work"
    rf"|reasoning|solution|calculation|computation|step|approach|number|claim|guess|box)|the\s+above|{_A}"
    r"|everything(?:\s+above)?|all\s+of\s+(?:this|that|the\s+above))"
)
_WRONG = (
    rf"(?:\b|(?={_A})){_IT}\s*(?:is|was|are|were|['\u2019]s|seems|looks|must\s+be"
    rf"|turns\s+out\s+to\s+be)\s+{_ADVERBS}(?:(?:an?|the|my)\s+)?"
    r"(?:wrong|incorrect|false|mistaken|invalid|erroneous|inaccurate|impossible|mistake|error|off|nonsense"
    r"|miscalculation|slip|typo|not\s+(?:\w+\s+){0,2}?(?:right|correct|true"
    r"|valid|possible|(?:the|my)\s+(?:\w+\s+)?(?:answer|result|solution|value)|it|what))\b"
)
_WITHDRAW = re.compile(
    _WRONG + rf"|\b{_IT}\s*(?:is|was|does|do|did|can|could)n['\u2019]?t\s+{_ADVERBS}(?:be\s+)?(?:right|correct|true"
    rf"|valid|possible|(?:the|my)\s+(?:\w+\s+)?(?:answer|result)|work|check\s+out|check|hold|add\s+up"
    rf"|make\s+sense|fit|satisfy|match)\b"
    + rf"|\b{_IT}\s+(?:cannot\s+be|does\s+not|do\s+not|did\s+not|can\s+not\s+be)\s+{_ADVERBS}(?:right|correct"
    rf"|true|valid|possible|the\s+answer|it|work|check|hold|add\s+up|make\s+sense|fit|satisfy|match)\b"
    + rf"|\b{_IT}\s+(?:fails|failed|contradicts)\b|\bon\s+checking[, ]+(?:this|that|it)\s+fails"
    + r"|\b(?:ignore|disregard|scratch|retract|forget|discard|strike|withdraw|take\s+back|cross\s+out"
    r"|drop)\s+(?:all\s+(?:of\s+)?)?(?:that|this|it|the\b|my\b|what\b|everything|above|previous)"
    + r"|\btake\s+(?:it|that|this)\s+back\b|\bnever\s?mind\b|\bstart\s+over\b|\blet\s+me\s+(?:redo"
    r"|start\s+(?:over|again)|try\s+again|correct|fix)"
    + r"|\bI\s+(?:(?:have|must\s+have|may\s+have)\s+)?(?:just\s+|also\s+)?(?:made|see|found|spotted"
    r"|notice[d]?)\s+(?:an?|my|the)\s+(?:\w+\s+){0,2}?(?:error|mistake|slip|blunder)"
    + r"|\bI\s+(?:was|am)\s+(?:wrong|mistaken)|\bI\s+(?:miscounted|misread|miscalculated|misspoke|erred"
    r"|forgot|dropped|cannot\s+solve|can['\u2019]t\s+solve|give\s+up)"
    + r"|^\W*(?:(?:wait|no|hmm|oh|oops|sorry|well|but|actually)\W+)*(?:wrong|incorrect|not\s+(?:right|correct"
    r"|true|quite|the\s+answer)|that['\u2019]s\s+(?:wrong|not\s+\w+))\b"
    + r"|\bes\s+(?:incorrect[oa]|fals[oa]|err[o\u00f3]ne[oa]|un\s+error)|\best[a\u00e1]\s+(?:mal"
    r"|equivocad[oa])|\bno\s+es\s+(?:correct[oa]|ciert[oa])|\bme\s+equivoqu|\bignor[ae]\s+(?:lo|eso|la)"
    + r"|\best\s+(?:faux|fausse|incorrecte?|une\s+erreur)|\bn['\u2019]est\s+pas\s+(?:correct|juste|bon)"
    r"|\bje\s+me\s+suis\s+tromp|\bignorez?\s+(?:ce|cela|la|le)"
    + r"|\bist\s+(?:leider\s+)?(?:falsch|nicht\s+(?:richtig|korrekt)|ein\s+fehler)"
    r"|\bignorier\w*\s+(?:sie\s+)?(?:das|die|den)|\bich\s+habe\s+mich\s+(?:geirrt|verrechnet)"
    + r"|\u043d\u0435\u0432\u0435\u0440\u043d|\u043d\u0435\u043f\u0440\u0430\u0432\u0438\u043b\u044c\u043d"
    r"|\u044f\s+\u043e\u0448\u0438\u0431|\u044d\u0442\u043e\s+\u043e\u0448\u0438\u0431|\u4e0d\u5bf9"
    r"|\u4e0d\u5c0d|\u9519\u4e86|\u932f\u4e86|\u662f\u9519|\u4e0d\u6b63\u786e|\u5ffd\u7565|\u7b97\u9519",
    re.IGNORECASE,
)
_STANDS = re.compile(
    rf"(?:\b{_IT}|{_A})\s*(?:is|was|['\u2019]s)\s+(?:(?:indeed|still|actually|also|clearly|in\s+fact"
    rf"|certainly|definitely)\s+)*(?:right|correct|true|fine|valid|the\s+(?:right|correct)\s+(?:answer|value"
    rf"|one))\b"
    rf"|\b{_IT}\s+(?:stands|holds|checks\s+out|works)\b|\b(?:which|this|it|that)\s+(?:matches|agrees|confirms)\b",
    re.IGNORECASE,
)
_NOT_SAID = re.compile(
    r"^\W*(?:(?:but|and|so|note|also)\W+)*(?:if|had|were|suppose|assuming|should\s+(?:it|we|you|one)"
    r"|otherwise|a\s+common|one\s+might|some|many|students)\b",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    r"(?:\b(?:should|must|ought\s+to|has\s+to|needs\s+to)\s+(?:be|read|say|have\s+been|have\s+read|equal)"
    r"|\b(?:I|we)\s+(?:meant|mean|intended)(?:\s+to\s+(?:say|write|put))?"
    r"|\b(?:correct|right|true|actual|real|proper|corrected|new|updated|revised|final)\s+(?:\w+\s+)?(?:is"
    r"|was|are|equals|would\s+be|should\s+be)|\b(?:correct|right)\s+(?:answer|value|one|result)\s*[:=]"
    r"|\bmake\s+(?:it|that)|\b(?:replace\s+it\s+with|change\s+(?:it|that)\s+to|correct(?:ed)?\s+(?:it\s+)?to"
    r"|instead\s+of\s+\S+,?\s+it\s+is)|\bcorrection\s*:|\b(?:is|it['\u2019]s|that['\u2019]s|to\s+be|get"
    r"|gives?|obtain|have|answer\s*:|=|equals)"
    r"|\bno,(?:\s+wait,?)?|\bno\s+wait,?|\bactually,?|\brather,?|\boops,?|\bsorry,?|\bdeber[i\u00ed]a\s+ser|\bquise\s+decir|\bes"
    r"|\bje\s+voulais\s+dire|\bdevrait\s+[\u00ea]tre|\bsollte(?:\s+\w+)?|\bich\s+meinte|\bmeinte"
    r"|\bist)\s+(?:(?:actually|in\s+fact|simply|just|instead|rather|now|equal\s+to)\s+)*",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?:option\s+)?\*{0,2}\(?([A-J])\)?(?![\w'\u2019])(?!\s+[a-z])")
_CUE = re.compile(
    r"\b(?:wait|actually|correction|sorry|oops|hold\s+on|scratch\s+that|mistake|slip|error|wrong"
    r"|let\s+me\s+(?:re|double|correct|fix)\w*|on\s+second\s+thought|rather|meant|should\s+(?:be|read|say"
    r"|have)"
    r"|instead|on\s+reflection|no,|hmm|correct(?:ed)?\s+(?:answer|value|result)|right\s+(?:answer|value"
    r"|result)|perd[o\u00f3]n|quise\s+decir|deber[i\u00ed]a|voulais\s+dire|d[e\u00e9]sol[e\u00e9]|pardon"
    r"|entschuldigung|meinte|sollte)",
    re.IGNORECASE,
)


def verdict_of(tail: str, answer: str) -> str | None:
    """What the text after an answer makes of it: None where it stands, WITHDRAWN, or the answer it gives instead."""
    tail = tail[:_REACH]
    if _QUICK.search(tail) is None:
        return None
    words, values = masked(tail)
    state, cued = None, False
    for sentence in _SENTENCE.findall(words):
        asked = sentence.rstrip().endswith(("?", "\uff1f"))
        if asked or _NOT_SAID.match(sentence):
            continue
        cued = cued or _CUE.search(sentence) is not None
        if any(_of_it(match[0], values, answer) for match in _WITHDRAW.finditer(sentence)):
            state = WITHDRAWN
        elif _STANDS.search(sentence):
            named = re.search(rf"({_A})\s*(?:is|was)\b", sentence)
            state = values[ord(named[1]) - 0xE000] if named and state is not None else None
            continue
        if cued:
            instead = _instead(sentence, values)
            state = instead if instead is not None else state
    return state


def _of_it(said: str, values: list[str], answer: str) -> bool:
    """Whether "... is wrong" is said of the answer and not of another value."""
    named = [values[ord(c) - 0xE000] for c in said if c >= "\ue000"]
    return not named or any(name.strip(" $") in answer for name in named)


def _instead(sentence: str, values: list[str]) -> str | None:
    for cue in reversed(list(_INSTEAD.finditer(sentence))):
        rest = sentence[cue.end() :]
        letter = _LETTER.match(rest)
        if letter is not None:
            return letter[1]
        if re.match(rf"[\s$*(]*(?:[a-zA-Z]\s*=\s*)?{_A}", rest):
            return read(rest, values)
    return None
