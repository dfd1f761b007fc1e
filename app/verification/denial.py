"""Words that deny a value or only bound it: "not 7", "at least 7", "a multiple of 7", in several languages.

An answer is credited only where the words around it are none of these.
"""

from __future__ import annotations

import re

# Anywhere in the clause of the value. "Not" in a relative clause ("those who did not pass") says nothing of the value.
_DENY = r"""
    not | never | no | nor | neither | none | nothing | nobody | nowhere | cannot | cant | \w+n['\u2019]t | without
    | hardly | scarcely | barely | rarely | seldom | anything\ but | all\ but | except(?:ing)? | excluding | unless
    | rather\ than | instead\ of | other\ than | apart\ from | aside\ from | as\ opposed\ to | far\ from
    | short\ of | contrary\ to
    | impossible | unlikely | improbable | doubt\w* | untrue | false | falsely | wrong(?:ly)? | incorrect(?:ly)?
    | mistak\w+
    | invalid | erroneous(?:ly)? | inaccurate | inconsistent | absurd | nonsense | unknown | undefined
    | undetermined
    | indeterminate | uncertain | unsure | unclear | undecided | unsolved | unsolvable | misread | miscounted
    | miscalculated
    | fail(?:s|ed|ing)? | lacks? | lacking | excludes? | excluded | rules?\ out | ruled\ out | rejects? | rejected
    | refutes? | refuted | disprove[sdn]? | disproven | den(?:y|ies|ied) | contradict\w* | avoids? | avoided
    | misses
    | differs? | differing | different\ from | distinct\ from | unequal | discard(?:s|ed)? | withdrawn?
    | retract(?:s|ed)?
    | at\ (?:the\ (?:very\ )?)?(?:least|most|minimum|maximum|best|worst)
    | no\ (?:more|less|fewer|greater|smaller|larger) | minimum\ of | maximum\ of
    | (?:more|less|fewer|greater|larger|smaller|bigger|higher|lower|older|younger|longer|shorter|better|worse)\ than
    | exceed(?:s|ed|ing)? | surpass(?:es|ed|ing)? | upwards?\ of | (?:lower|upper)\ (?:bound|limit) | bound(?:s|ed)?
    | or\ (?:more|less|fewer|greater|higher|lower|smaller|larger|so|above|below|over|under|later|earlier|beyond)
    | and\ (?:above|below|over|under|up|beyond) | up\ to | as\ (?:many|much|few|little)\ as | somewhere | anywhere
    | close(?:r|st)?\ to | near(?:er|est|by|ly)? | almost | not\ quite | just\ (?:under|over|below|above|short)
    | or\ thereabouts
    | multiples? | divisible | divides | divisors? | coprime | congruent | relatively\ prime | digits?
    | remainder\ when
    | indivisible | impossib\w+
    | could\ be | might | may\ be | can\ be | possibly | would\ have\ been | should\ have\ been | had\ been
    | if\ only | suppose
    | supposedly | allegedly | hypothetical\w* | pretend\w* | assum(?:e|es|ed|ing)
"""
# Spanish, French, German, Portuguese, Italian, Russian.
_DENY_ELSEWHERE = r"""
    nunca | jam[a\u00e1]s | tampoco | ning[u\u00fa]n[oa]? | imposible | incorrect[oa]s? | falso | falsa
    | equivocad[oa] | err[o\u00f3]ne[oa] | err[o\u00f3]neamente | desconocid[oa] | al\ menos | por\ lo\ menos
    | como\ (?:m[a\u00e1]ximo|m[i\u00ed]nimo|mucho|poco) | a\ lo\ (?:sumo|m[a\u00e1]s) | m[a\u00e1]s\ de
    | menos\ de | mayor(?:es)?\ (?:que|de|a) | menor(?:es)?\ (?:que|de|a) | superior(?:es)?\ a
    | inferior(?:es)?\ a | cerca\ de | casi | alrededor\ de | m[u\u00fa]ltiplos? | divisibles? | o\ m[a\u00e1]s
    | o\ menos | hasta | excepto | distint[oa]\ de | diferente\ de | podr[i\u00ed]a | quiz[a\u00e1]s? | tal\ vez
    | n['\u2019]est | n['\u2019]\w+ | jamais | aucune? | sans | sauf | faux | fausse | inexacte? | impossible
    | inconnue? | au\ (?:moins|plus|minimum|maximum) | plus\ (?:de|que|grande?\ que|petite?\ que)
    | moins\ (?:de|que) | sup[e\u00e9]rieure?s?\ [a\u00e0] | inf[e\u00e9]rieure?s?\ [a\u00e0] | pr[e\u00e8]s\ de
    | proche\ de | presque | jusqu['\u2019][a\u00e0\w]* | divisible\ par | ou\ (?:plus|moins)
    | diff[e\u00e9]rente?\ de | pourrait | peut[- ][e\u00ea]tre | autre\ que | nicht | kein\w* | niemals
    | nimmer | ohne | weder | falsch | unm[o\u00f6]glich | unbekannt | ung[u\u00fc]ltig | mindestens
    | h[o\u00f6]chstens | wenigstens | mehr\ als | weniger\ als | gr[o\u00f6](?:\u00df|ss)er\ als | kleiner\ als
    | beinahe | nahezu | nahe(?:\ an|\ bei)? | ungef[a\u00e4]hr | bis\ zu | vielfache[sn]? | teilbar | teiler
    | oder\ (?:mehr|weniger) | au(?:\u00df|ss)er | ungleich | vielleicht | k[o\u00f6]nnte | n[a\u00e3]o
    | nenhum\w* | incorret[oa] | errad[oa] | imposs[i\u00ed]vel | pelo\ menos | no\ m[a\u00e1]ximo
    | no\ m[i\u00ed]nimo | mais\ (?:de|que|do) | menos\ (?:de|que|do) | maior\ que | menor\ que | perto\ de
    | quase | divis[i\u00ed]vel | m[u\u00fa]ltiplo | senza | nessun\w* | sbagliat[oa] | errat[oa] | impossibile
    | almeno | al\ massimo | al\ minimo | pi[u\u00f9]\ di | meno\ di | maggiore\ di | minore\ di | vicino\ a
    | quasi | divisibile | multiplo | fino\ a | \u043d\u0435 | \u043d\u0438 | \u043d\u0435\u0442
    | \u043d\u0438\u043a\u043e\u0433\u0434\u0430 | \u0431\u0435\u0437 | \u043a\u0440\u043e\u043c\u0435
    | \u043d\u0435\u0432\u0435\u0440\u043d\w* | \u043d\u0435\u043f\u0440\u0430\u0432\u0438\u043b\u044c\u043d\w*
    | \u043e\u0448\u0438\u0431\w* | \u043d\u0435\u0432\u043e\u0437\u043c\u043e\u0436\u043d\w*
    | \u0431\u043e\u043b\u0435\u0435 | \u043c\u0435\u043d\u0435\u0435 | \u0431\u043e\u043b\u044c\u0448\u0435
    | \u043c\u0435\u043d\u044c\u0448\u0435 | \u0441\u0432\u044b\u0448\u0435
    | \u043f\u043e\ \u043a\u0440\u0430\u0439\u043d\u0435\u0439\ \u043c\u0435\u0440\u0435
    | \u0445\u043e\u0442\u044f\ \u0431\u044b | \u043c\u0430\u043a\u0441\u0438\u043c\u0443\u043c
    | \u043c\u0438\u043d\u0438\u043c\u0443\u043c | \u043f\u043e\u0447\u0442\u0438
    | \u043e\u043a\u043e\u043b\u043e | \u043f\u0440\u0438\u043c\u0435\u0440\u043d\u043e
    | \u0431\u043b\u0438\u0437\u043a\w* | \u043a\u0440\u0430\u0442\u043d\w* | \u0434\u0435\u043b\u0438\u0442\w*
    | \u0434\u043e
"""
# Words that English has too, or nearly: only where the rest is in another language.
_DENY_AMBIGUOUS = r"""
    ni | sin | mal | salvo | ne | pas | rien | environ | nie | noch | maximal | minimal | [u\u00fc]ber | unter
    | fast | knapp | etwa | nem | sem | at[e\u00e9] | non | mai
"""
# Chinese, Japanese, Korean: no spaces between words.
_DENY_UNSPACED = (
    "\u4e0d|\u975e|\u6ca1|\u6c92|\u65e0|\u7121|\u672a|\u8d85\u8fc7|\u8d85\u904e|\u81f3\u5c11|\u81f3\u591a"
    "|\u6700\u591a|\u6700\u5c11|\u5927\u4e8e|\u5c0f\u4e8e|\u591a\u4e8e|\u5c11\u4e8e|\u5927\u65bc"
    "|\u5c0f\u65bc|\u4f4e\u4e8e|\u9ad8\u4e8e|\u63a5\u8fd1|\u5927\u7ea6|\u5927\u7d04|\u7ea6\u4e3a"
    "|\u500d\u6570|\u500d\u6578|\u6574\u9664"
    "|\u4ee5\u4e0a|\u4ee5\u4e0b|\u4ee5\u5185|\u9519|\u932f|\u9664\u4e86|\u53ef\u80fd|\u4e5f\u8bb8"
    "|\u672a\u6e80|\u306a\u3044|\u306a\u3057|\u3042\u308a\u307e\u305b\u3093|\u3067\u306f|\u9593\u9055"
    "|\u304a\u3088\u305d|\u7d04|\uc544\ub2c8|\uc544\ub2cc|\uc774\uc0c1|\uc774\ud558|\ucd5c\uc18c"
    "|\ucd5c\ub300|\ubbf8\ub9cc|\ucd08\uacfc|\ubc30\uc218"
)
_VERBOSE = re.VERBOSE | re.IGNORECASE
_DENIES = re.compile(rf"(?<![\w'\u2019])(?:{_DENY})(?![\w])", _VERBOSE)
_DENIES_AMBIGUOUS = re.compile(rf"(?<![\w'\u2019])(?:{_DENY_AMBIGUOUS})(?![\w])", _VERBOSE)
_DENIES_ELSEWHERE = re.compile(rf"(?<![\w'\u2019])(?:{_DENY_ELSEWHERE})(?![\w])|{_DENY_UNSPACED}", _VERBOSE)
_RELATIVE = re.compile(
    r"\b(?:who|that|which|whom|where)\s+(?:\w+\s+)?(?:do|did|does|is|are|was|were|have|has|had|can|could"
    r"|will|would|ca|wo)\s?"
    r"(?:not|n['\u2019]t)\b|\bwithout\b(?=[^,]*\b(?:is|are|was|equals|=))",
    re.IGNORECASE,
)
_SCRIPTED = re.compile(
    r"[^\x00-\x7f]|\b(?:la|el|es|le|der|das|ist|est|sont|sind|il|elle|un|una|une|ein|eine|que|y|quedan"
    r"|entonces|tiene|hay|donc|reste|und|somit|respuesta|antwort)\b"
)
_COPULA = re.compile(r"\b(?:is|are|was|were|equals?|gives?|becomes?)\b|=", re.IGNORECASE)
_NEGATES = re.compile(
    r"\b(?:not|never|nor|neither|none|nothing|cannot|cant|without|\w+n['\u2019]t|no\s+(?:longer|way|reason"
    r"|chance|one)|impossible|unlikely"
    r"|doubt\w*|untrue|wrong(?:ly)?|incorrect(?:ly)?|mistak\w+|false(?:ly)?|unknown|unclear|unsure|uncertain"
    r"|undefined|suppose|assum(?:e|es|ed|ing)"
    r"|could|might|may|pretend\w*|fail(?:s|ed)?|if\s+only|contrary\s+to|anything\s+but|far\s+from)\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\bthe\s+(?:total\s+)?(?:number|count|amount|share|fraction|percentage|probability|chance|odds)\s+(?:of"
    r"|that)\b[^,;\ue000-\uf8ff]*?"
    r"(?=\b(?:is|are|was|equals|would be|will be)\b(?!\s+(?:who|that|which)))",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?<![A-Za-z])(?:sections?|sec|steps?|chapters?|pages?|p|pp|lines?|rows?|columns?|cols?|figures?|figs?"
    r"|tables?|theorems?|thm|lemmas?"
    r"|corollar(?:y|ies)|propositions?|prop|axioms?|definitions?|equations?|eqs?|eqn|formulas?|parts?|cases?"
    r"|problems?|questions?"
    r"|exercises?|examples?|appendix|items?|points?|notes?|rules?|methods?|approach(?:es)?|options?|choices?"
    r"|attempts?|tr(?:y|ies)"
    r"|cells?|versions?|level|grade|volume|vol|no\.|nr\.?|#|paso|secci[o\u00f3]n|cap[i\u00ed]tulo"
    r"|p[a\u00e1]gina|teorema|[e\u00e9]tape"
    r"|chapitre|th[e\u00e9]or[e\u00e8]me|schritt|abschnitt|kapitel|seite|satz|\u0448\u0430\u0433\w*"
    r"|\u0433\u043b\u0430\u0432\w*|\u0440\u0430\u0437\u0434\u0435\u043b\w*"
    r"|\u0442\u0435\u043e\u0440\u0435\u043c\w*)"
    r"\.?\s*\(?$",
    re.IGNORECASE,
)
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:over|under|above|below|beneath|around|past|beyond|towards?|within|between|until|till"
    r"|about\s+to|just\s+about"
    r"|pas|nie|fast|unter|maximal|minimal|non|durch|but|except|save|besides|like|unlike|than|versus|vs"
    r"|divid\w+\s+by|multipl\w+\s+by|circa|nearly|roughly\s+around|a\s+factor\s+of|to\s+the)"
    r"|[<>\u2264\u2265\u2260\u226a\u226b\u00b1\u2213])\s*(?:the\s+|an?\s+)?\$?$",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(
    r"\s*[,(\u2014\u2013-]*\s*(?:and|or|but)?\s*(?:at\s+(?:the\s+)?(?:very\s+)?(?:least|most|minimum|maximum"
    r"|best|worst)"
    r"|or\s+(?:more|less|so|fewer|greater|higher|lower|above|below|over|under|thereabouts|larger|smaller)"
    r"|minimum\b|maximum\b|min\b|max\b"
    r"|tops\b|give\s+or\s+take|or\s+(?:m[a\u00e1]s|menos|plus|moins|mehr|weniger"
    r"|\u0431\u043e\u043b\u044c\u0448\u0435|\u043c\u0435\u043d\u044c\u0448\u0435"
    r"|\u0431\u043e\u043b\u0435\u0435|\u043c\u0435\u043d\u0435\u0435)|plus\s+or\s+minus|and\s+(?:up|above"
    r"|over|below|under)"
    r"|\+(?!\s*[\w\ue000-\uf8ff])|o\s+m[a\u00e1]s|ou\s+plus"
    r"|oder\s+mehr|\u0438\u043b\u0438\s+\u0431\u043e\u043b\u0435\u0435)",
    re.IGNORECASE,
)
_WITHDRAWS = re.compile(
    r"\b(?:falsch|faux|fausse|falso|incorrect[oa]|errad[oa]|sbagliato)\b|"
    r"\b(?:is|are|was|were|be|seems|looks|turns\s+out\s+to\s+be|'s|as)\s+(?:(?:also|clearly|actually"
    r"|definitely|obviously|simply|still|just|an?"
    r"|the|my|probably|likely|certainly|surely|completely|totally)\s+)*(?:wrong|incorrect|false|mistaken"
    r"|invalid|erroneous|inaccurate|impossible"
    r"|absurd|mistake|error|off|nonsense|untrue)\b"
    r"|\b(?:is|are|was|were|does|do|did|can|could|would|will|has)\s*(?:not"
    r"|n['\u2019]t)\s+(?:\w+\s+){0,3}?(?:the\s+(?:\w+\s+)?(?:answer|result|solution|value|case)"
    r"|right|correct|true|valid|possible|it|so|work|hold|make\s+sense|fit|check|add\s+up|match|satisfy)\b"
    r"|\bcannot\s+be\b|\bcan['\u2019]t\s+be\b|\b(?:that|this|it)\s+fails\b|\bfails\b"
    r"|[(\[]\s*(?:\w+\s+)?(?:wrong|incorrect|false|no[).,!]|not\s+(?:the\s+(?:\w+\s+)?answer|right|correct"
    r"|true|sure|it\b|this\b|really|possible|[\ue000-\uf8ff])|rejected|discarded|invalid"
    r"|mistake|error|faux|falso|falsch|incorrecto|\u043d\u0435\u0432\u0435\u0440\u043d\w*|\u9519)|\?\s*(?:no"
    r"|nope|wrong|not)\b"
    r"|^\s*[,.;:\u2014\u2013-]*\s*(?:wrong|incorrect|false|not\s+(?:the\s+(?:\w+\s+)?answer|right|correct"
    r"|true|really|quite|exactly|possible|it|this|that)|no\b(?!\s+\w+\s+(?:left|remain)))"
    r"|\bes\s+(?:incorrecto|falso|err[o\u00f3]neo|un\s+error)|\bno\s+es\s+(?:\w+\s+)?(?:correct[oa]"
    r"|ciert[oa]|la\s+respuesta|as[i\u00ed])|\best\s+(?:faux|fausse|incorrecte?|une\s+erreur)"
    r"|\bn['\u2019]est\s+pas\s+(?:\w+\s+)?(?:correcte?|juste|vrai|la\s+r[e\u00e9]ponse|bon)"
    r"|\bist\s+(?:falsch|nicht\s+(?:richtig|korrekt|die\s+(?:\w+\s+)?antwort)|ein\s+fehler)"
    r"|\u043d\u0435\u0432\u0435\u0440\u043d\w*|\u043d\u0435\u043f\u0440\u0430\u0432\u0438\u043b\w*"
    r"|\u043e\u0448\u0438\u0431\u043a\w*|\u4e0d\u5bf9|\u4e0d\u5c0d|\u9519\u8bef|\u932f\u8aa4"
    r"|\u4e0d\u6b63\u786e|\u4e0d\u6b63\u78ba|\u4e0d\u662f\u7b54\u6848|\u662f\u9519|\u9593\u9055",
    re.IGNORECASE,
)


def _foreign(text: str) -> bool:
    return _SCRIPTED.search(text) is not None


def denies(words: str) -> bool:
    """Whether words that stand with a value deny it, doubt it or only bound it."""
    words = _RELATIVE.sub(" ", words)
    return _DENIES.search(words) is not None or _denies_elsewhere(words)


def _denies_elsewhere(words: str) -> bool:
    if _DENIES_ELSEWHERE.search(words):
        return True
    return _foreign(words) and _DENIES_AMBIGUOUS.search(words) is not None


def _negates(subject: str) -> bool:
    """Whether a subject denies what is said of it; bounds in it ("numbers less than 10") are part of the question."""
    return _NEGATES.search(subject) is not None or _denies_elsewhere(subject)


def denied_before(clause: str) -> bool:
    """Whether a clause up to its value ("the sum is at least") denies or bounds the value, or makes it a label."""
    clause = clause.rstrip("*_`{[ ")
    if _LABEL.search(clause) or _BOUND_BEFORE.search(clause):
        return True
    clause = _COUNTED.sub(" ", clause)
    copulas = list(_COPULA.finditer(clause))
    if not copulas:
        return denies(clause)
    subject, predicate = clause[: copulas[-1].start()], clause[copulas[-1].start() :]
    return denies(predicate) or _negates(_RELATIVE.sub(" ", subject))


_DENIES_AFTER = re.compile(
    r"^\s*(?:\w+\s+)?(?:is|are|was|were|does|do|did|can|could|would|will|has)\s*(?:not|never"
    r"|n['\u2019]t)\b(?!\s+\w+(?:ed|en)\b)|^\s*(?:cannot|never|not)\b"
    r"|\bthan\s+(?:the\s+)?[\ue000-\uf8ff]|\bat\s+(?:the\s+)?(?:very\s+)?(?:least|most|minimum|maximum|best"
    r"|worst)\b"
    r"|\bor\s+(?:more|less|so|fewer|greater|higher|lower|above|below|over|under|thereabouts|larger"
    r"|smaller)\b|\b(?:minimum|maximum|tops)$|\bgive\s+or\s+take\b"
    r"|\b(?:wrong|incorrect|false|mistaken|erroneous|invalid|impossible|rejected|discarded|excluded)\s*$"
    r"|\b(?:lower|upper)\s+(?:bound|limit)\b|\bfails\b",
    re.IGNORECASE,
)
_DENIES_AFTER_ELSEWHERE = re.compile(
    r"\bor\s+(?:m[a\u00e1]s|menos|plus|moins|mehr|weniger|mais|\u0431\u043e\u043b\u044c\u0448\u0435"
    r"|\u043c\u0435\u043d\u044c\u0448\u0435|\u0431\u043e\u043b\u0435\u0435|\u043c\u0435\u043d\u0435\u0435)\b"
    r"|^\s*teilbar|"
    r"^\s*(?:\w+\s+)?(?:no|nicht|ne|n['\u2019]|n\u00e3o|non|\u043d\u0435)\b|\bo\s+(?:m[a\u00e1]s|menos)\b"
    r"|\bou\s+(?:plus|moins)\b|\boder\s+(?:mehr|weniger)\b|\bcomo\s+m[i\u00ed]nimo|\bcomo\s+m[a\u00e1]ximo"
    r"|\bal\s+menos|\bau\s+(?:moins|plus)|\bmindestens|\bh[o\u00f6]chstens"
    r"|\b\u0438\u043b\u0438\s+(?:\u0431\u043e\u043b\u0435\u0435|\u0431\u043e\u043b\u044c\u0448\u0435"
    r"|\u043c\u0435\u043d\w+)|\u4ee5\u4e0a|\u4ee5\u4e0b|\u4ee5\u5185|\u672a\u6e80|\u672a\u6ee1|\u4e0d|\u9519|\u932f|\u306a\u3044"
    r"|\uc774\uc0c1|\uc774\ud558|\uc544\ub2c8",
    re.IGNORECASE,
)


def denies_after(words: str) -> bool:
    """Whether the rest of its clause denies or bounds a value: "7 is not it", "7 apples or more", "7 at least"."""
    if _DENIES_AFTER.search(words.rstrip()):
        return True
    return _DENIES_AFTER_ELSEWHERE.search(words) is not None


def bounded_after(text: str) -> bool:
    """Whether what directly follows a value makes it a bound: "or more", ", at most"."""
    return _BOUND_AFTER.match(text) is not None


def withdraws(text: str) -> bool:
    """Whether words after a value say that it is wrong: "is wrong", "(not the answer)", "? No"."""
    return _WITHDRAWS.search(text) is not None


_BOX_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|can\s+never|no\s+longer|anything\s+but|rather\s+than|instead\s+of"
    r"|other\s+than|neither|nor|nicht|keine?|niemals|nunca|jamais|pas|n\u00e3o|non|\u043d\u0435)|n['\u2019]t"
    r"|\bno(?:\s+es)?|\u4e0d\u662f|\u4e0d|\u975e)\s*(?:be|equal(?:\s+to)?|=|exactly|simply|just|the"
    r"|\u7b49\u4e8e)?\s*(?:[$\\(\[*{\s]|\\[(\[])*$|\\n(?:eq?|ot=)\s*$|\\not\s*=\s*$",
    re.IGNORECASE,
)
_BOX_WORKED = re.compile(r"\s*(?:\^|!(?!\s*$)|\*\s*\d|/\s*\d)")


def denied_box(before: str, after: str) -> bool:
    """Whether a box is what the answer is not ("not \\boxed{7}"), or only an operand (`\\boxed{7}^2`)."""
    return _BOX_DENIED.search(before) is not None or _BOX_WORKED.match(after) is not None
