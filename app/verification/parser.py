"""Answers: lists, relations, intervals, sets and matrices over expressions. Reads the whole input or refuses it."""

from __future__ import annotations

import re
from functools import lru_cache

from app.verification.atoms import based
from app.verification.commands import CommandParser
from app.verification.lexer import Token, tokenise
from app.verification.limits import MAX_ANSWER, MAX_ITEMS, MAX_NODES, TooLarge, Unreadable
from app.verification.normalise import normalise
from app.verification.tree import Node, func, seq, walk

_RELATIONS = {
    "=": "=",
    "<": "<",
    ">": ">",
    "le": "<=",
    "ge": ">=",
    "ne": "!=",
    "approx": "~",
    "in": "in",
    "equiv": "=",
    "implies": "=>",
}
_SEPARATORS = (",", ";", "and", "or", "where", "newline", "implies", "quad")
_BASED = re.compile(r"([0-9A-Fa-f]+)_\{?(?:\\text\{)?\s*(\d{1,2}|two|three|eight|ten|sixteen)\s*\}{0,2}")
_BASE_WORDS = {"two": 2, "three": 3, "eight": 8, "ten": 10, "sixteen": 16}
_MAX_NOUNS = 8
# Words that change what the number beside them says, so that it may not be read without them.
_CHANGING = frozenset(
    [
        "not",
        "never",
        "least",
        "most",
        "than",
        "except",
        "without",
        "neither",
        "nor",
        "no",
        "cannot",
        "fewer",
        "until",
        "unknown",
        "impossible",
        "wrong",
        "incorrect",
        "false",
        "up",
        "under",
        "beyond",
        "divisible",
        "divides",
        "bound",
        "close",
    ]
)
_RELATED = re.compile(r"\b(?:multiples?|factors?|divisors?|powers?)\s+of\b")  # `multiples of 7` is not 7


class AnswerParser(CommandParser):
    """Whole answers."""

    def answer(self) -> Node:
        """One statement, or several joined by commas, "and" or "or"."""
        node = self.items(())
        if self.peek().kind != "end":
            raise Unreadable(f"{self.peek().value!r} after the answer")
        return node

    def items(self, closing: tuple[str, ...]) -> Node:
        """Statements up to a closing bracket. Conditions after "for", "where" follow as members of a `where` list."""
        members = [self.statement()]
        joints = set()
        while self.on(*_SEPARATORS):
            joint = self.next().value
            while self.on(*_SEPARATORS):
                joint = self.next().value
            if self.peek().kind == "end" or (closing and self.on(*closing)):
                break
            joints.add(joint)
            members.append(self.statement())
            if len(members) > MAX_ITEMS:
                raise TooLarge(f"more than {MAX_ITEMS} members")
        if len(members) == 1:
            return members[0]
        if members[-1].kind == "cong" and members[-1].args[0].kind == "true" and "where" not in joints:
            return _residues(members)
        if "implies" in joints:
            return members[-1]
        if "where" in joints:
            return Node("seq", tuple(members), "where")
        return seq(members, "or" if "or" in joints else "")

    def statement(self) -> Node:
        """A chain of relations between set expressions, or one expression."""
        label = self.label()
        if label is None and self.on("=", "approx"):
            self.next()
        operands = [label if label is not None else self.sets()]
        operators: list[str] = []
        token: Token | None = None
        while self.on("=", "<", ">", "le", "ge", "ne", "approx", "in", "equiv", "notin", ":") and not (
            self.no_colon and self.on(":")
        ):
            token = self.next()
            if token.value == ":":
                return self.ratio(operands, operators)
            if token.value == "notin":
                operators.append("notin")
            else:
                operators.append(_RELATIONS[token.value])
            self.take("=")  # as in "<=" written apart
            operands.append(self.sets())
            if (
                operators[-1] in ("in", "notin")
                and operands[-1].kind == "sym"
                and operands[-1].value in ("R", "Z", "N", "Q")
            ):
                operands[-1] = Node("space", (), operands[-1].value)
        if self.take("to"):
            return self.ratio(operands, operators)
        if self.on("pmod", "(") or (token is not None and token.value == "equiv"):
            congruence = self.congruence(operands)
            if congruence is not None:
                return congruence
        return Node("rel", tuple(operands), tuple(operators)) if operators else operands[0]

    def congruence(self, operands: list[Node]) -> Node | None:
        """`x \\equiv 3 \\pmod 7`, `3 (mod 7)`, `x \\equiv 3 \\bmod 7`, as a `cong` node."""
        left, right = (operands[0] if len(operands) == 2 else Node("true")), operands[-1]
        if len(operands) > 2:
            return None
        if self.take("pmod"):
            return Node("cong", (left, right, self.argument()))
        if self.on("(") and self.peek(1).value in ("mod", "bmod"):
            self.at += 2
            modulus = self.sum()
            self.expect(")")
            return Node("cong", (left, right, modulus))
        if right.kind == "func" and right.value == "mod" and len(operands) == 2:
            return Node("cong", (left, *right.args))
        return None

    def ratio(self, operands: list[Node], operators: list[str]) -> Node:
        """`a : b : c`. A ":" after words is a caption, "Total cost: 12"."""
        if len(operands) != 1 or operators:
            if operators and operators[-1] == "=":
                last = self.ratio(operands[-1:], [])
                return Node("rel", (*operands[:-1], last), tuple(operators))
            raise Unreadable("a ratio inside a relation")
        parts = [operands[0], self.sets()]
        while self.take(":", "to"):
            parts.append(self.sets())
        kinds = {n.kind for n in walk(parts[0])}
        if len(parts) == 2 and "noun" in kinds and "num" not in kinds:
            return Node("rel", (parts[0], parts[1]), ("=",))
        return Node("ratio", tuple(parts))

    def label(self) -> Node | None:
        """`f(x)` or `P(A)` before an equals sign: what is defined, not a product."""
        if self.peek().kind not in ("sym", "noun") or self.peek(1).value != "(":
            return None
        depth = 0
        for ahead in range(1, min(24, len(self.tokens) - self.at)):
            token = self.peek(ahead)
            depth += (token.value == "(") - (token.value == ")")
            if depth == 0:
                after = self.peek(ahead + 1)
                if after.kind == "op" and after.value in ("=", "approx") and self.peek().value not in ("e", "i"):
                    inner = self.tokens[self.at + 2 : self.at + ahead]
                    name = self.peek().value
                    self.at += ahead + 1
                    return Node("call", (), (name, "".join(t.value for t in inner)))
                return None
        return None

    def sets(self) -> Node:
        """Unions, intersections and differences of expressions."""
        node = _difference(self.sum())
        while (op := self.take("cup", "cap", "setminus")) is not None:
            other = _difference(self.sum())
            kind = {"cup": "union", "cap": "inter", "setminus": "minus"}[op]
            if node.kind == kind and kind != "minus":
                node = Node(kind, (*node.args, other))
            else:
                node = Node(kind, (node, other))
            if len(node.args) > MAX_ITEMS:
                raise TooLarge(f"more than {MAX_ITEMS} sets")
        return node

    def cell(self) -> Node:
        return self.statement()

    # brackets ---------------------------------------------------------------------------------------------------------
    def group(self) -> Node:
        """What stands in brackets: a value, a tuple, an interval, a set, a set-builder."""
        opening = self.next().value
        bars, self.bars = self.bars, 0
        if opening in ("\\{", "{"):
            node = self.braces(opening)
        elif opening == "<<":
            inner = self.items((">>",))
            self.expect(">>")
            node = seq(inner.args if _bare(inner) else (inner,), "<>")
        else:
            node = self.round_or_square(opening)
        self.bars = bars
        return node

    def braces(self, opening: str) -> Node:
        closing = {"\\{": "\\}", "{": "}"}[opening]
        if self.take(closing):
            return Node("empty")
        self.no_colon += 1
        bars, self.bars = self.bars, 1  # "|" ends the head of a set-builder
        inner = self.items((closing, "|", ":", "mid"))
        self.no_colon -= 1
        self.bars = bars
        if self.on("|", ":", "mid"):
            self.next()
            self.bars = 0
            condition = self.items((closing,))
            self.expect(closing)
            return Node("build", (inner, condition))
        if opening == "{" and self.take("choose"):
            lower = self.sum()
            self.expect("}")
            return func("binom", inner, lower)
        inner = self.over(inner)
        self.expect(closing)
        if opening == "{" and not _bare(inner):
            return inner
        return seq(inner.args if _bare(inner) else (inner,), "{}")

    def round_or_square(self, opening: str) -> Node:
        left = "(" if opening in ("(", "]") else "["
        no_colon, self.no_colon = self.no_colon, 0
        if self.on(")", "]"):
            raise Unreadable("empty brackets")
        inner = self.items((")", "]", "[") if opening == "]" else (")", "]"))
        self.no_colon = no_colon
        closing = self.next().value
        if opening == "]":
            closing = {"[": ")", "]": "]"}.get(closing, "")
        if closing not in (")", "]"):
            raise Unreadable("brackets that do not close")
        if _bare(inner):
            return seq(inner.args, left + closing)
        if left + closing in ("()", "[]") and inner.kind not in ("ratio",):
            return inner if left == "(" or inner.kind != "seq" else seq((inner,), "[]")
        if inner.kind == "ratio":
            return inner
        raise Unreadable("an interval with one end")


def _residues(members: list[Node]) -> Node:
    """`x \\equiv 1, 4 \\pmod 5`: the modulus stands after the last residue and holds for all."""
    first, *others = members
    left = Node("true")
    if first.kind == "rel" and len(first.args) == 2:
        left, first = first.args
    values = [first, *others[:-1], others[-1].args[1]]
    if any(v.kind in ("rel", "cong", "seq") for v in values):
        raise Unreadable("residues that are no values")
    return Node("cong", (left, *values, others[-1].args[-1]))


def _difference(node: Node) -> Node:
    """`\\mathbb{R} - \\{0\\}`, written with a minus sign, as a difference of sets."""
    if node.kind == "add" and len(node.args) == 2 and node.args[0].kind == "space" and node.args[1].kind == "neg":
        return Node("minus", (node.args[0], node.args[1].args[0]))
    return node


def _bare(node: Node) -> bool:
    return node.kind == "seq" and node.value in ("", "or")


def _check(node: Node) -> Node:
    nouns: list[str] = []
    for count, part in enumerate(walk(node)):
        if count > MAX_NODES:
            raise TooLarge(f"more than {MAX_NODES} nodes")
        if part.kind == "noun":
            nouns.append(part.value)
    if len(nouns) > _MAX_NOUNS or not _CHANGING.isdisjoint(nouns):
        raise Unreadable("prose")
    return node


@lru_cache(maxsize=8192)
def read(text: str, split_commas: bool = False, letters: bool = False) -> Node | str:
    """The tree of an answer, or why it has none: `unreadable` or `too-large`."""
    if len(text) > MAX_ANSWER:
        return "too-large"
    try:
        return parse(text, split_commas=split_commas, letters=letters)
    except TooLarge:
        return "too-large"
    except Unreadable:
        return "unreadable"


def parse(text: str, *, split_commas: bool = False, letters: bool = False) -> Node:
    """The tree of an answer. Raises Unreadable, or TooLarge, which is one."""
    text = normalise(text)
    if not text:
        raise Unreadable("nothing")
    if " of" in text and _RELATED.search(text):
        raise Unreadable("another number than the one beside it")
    match = _BASED.fullmatch(text.replace(" ", ""))
    if match:
        return based(match[1], _BASE_WORDS[match[2]] if match[2] in _BASE_WORDS else _base(match[2]))
    return _check(AnswerParser(tokenise(text, split_commas=split_commas, letters=letters)).answer())


def changes_a_number(words: str) -> bool:
    """Whether words say that a number beside them is not the value: "at least 7", "a multiple of 7"."""
    return not _CHANGING.isdisjoint(words.lower().split()) or _RELATED.search(words) is not None


def _base(text: str) -> int:
    base = int(text)
    if not 2 <= base <= 36:
        raise Unreadable(f"base {base}")
    return base


__all__ = ["AnswerParser", "Token", "changes_a_number", "parse", "read"]
