"""Expressions: a bounded recursive-descent parser over tokens. Lists, relations and sets are in parser.py."""

from __future__ import annotations

from app.verification.lexer import Token
from app.verification.limits import MAX_DEPTH, TooLarge, Unreadable
from app.verification.tree import Node, add, func, inv, mul, neg, num, power

_OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "<<": ">>"}
_STARTS = frozenset({"num", "sym", "const", "fn", "unit", "noun", "times", "power", "currency"})
_START_COMMANDS = frozenset(
    [
        "frac",
        "sqrt",
        "cbrt",
        "binom",
        "lfloor",
        "lceil",
        "begin",
        "sum",
        "prod",
        "int",
        "lim",
        "ldots",
        "angle",
        "triangle",
        "emptyset",
        "circ",
        "overline",
        "R",
        "Z",
        "N",
        "Q",
        "C",
        "Re",
        "Im",
        "i",
        "max",
    ]
)


class ExpressionParser:
    """Reads expressions from `tokens`. Subclasses supply `command` and `group`."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0  # open absolute values
        self.no_colon = 0  # inside braces, where ":" is "such that"
        self.differential = 0  # inside an integral, where "d x" ends the body

    # tokens -----------------------------------------------------------------------------------------------------------
    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else self.tokens[-1]

    def next(self) -> Token:
        token = self.tokens[self.at]
        if self.at < len(self.tokens) - 1:
            self.at += 1
        return token

    def on(self, *values: str) -> bool:
        """Whether the next token is one of these operators or commands."""
        token = self.tokens[self.at]
        return token.kind in ("op", "cmd") and token.value in values

    def take(self, *values: str) -> str | None:
        return self.next().value if self.on(*values) else None

    def expect(self, *values: str) -> str:
        found = self.take(*values)
        if found is None:
            raise Unreadable(f"{self.peek().value or 'the end'!r} where {' or '.join(values)} should stand")
        return found

    def group(self) -> Node:
        raise NotImplementedError

    # sums and products ------------------------------------------------------------------------------------------------
    def sum(self) -> Node:
        """`a + b - c`, with a leading sign and `\\pm`."""
        terms = [self.signed()]
        while True:
            op = self.take("+", "-", "pm", "mp")
            if op is None:
                return add(*terms)
            term = self.signed()
            terms.append(
                {"+": term, "-": neg(term)}[op] if op in "+-" else Node("pm", (term,), "+-" if op == "pm" else "-+")
            )

    def signed(self) -> Node:
        negative, both = False, None
        while (op := self.take("+", "-", "pm", "mp")) is not None:
            if op in ("pm", "mp"):
                both = "+-" if op == "pm" else "-+"
            negative ^= op == "-"
        term = self.product()
        term = neg(term) if negative else term
        return Node("pm", (term,), both) if both else term

    def product(self) -> Node:
        """Products, quotients and juxtaposition, all of one precedence, from the left."""
        factors = [self.factor()]
        while True:
            if self.take("*", "times"):
                factors.append(self.signed_factor())
            elif self.on("/"):
                self.next()
                factors.append(inv(self.signed_factor()))
            elif self.take("mod", "bmod"):
                factors = [func("mod", mul(*factors), self.factor())]
            elif self.starts_factor():
                self.juxtapose(factors)
            else:
                return mul(*factors)

    def signed_factor(self) -> Node:
        negative = False
        while (op := self.take("+", "-")) is not None:
            negative ^= op == "-"
        factor = self.factor()
        return neg(factor) if negative else factor

    def starts_factor(self) -> bool:
        """Whether a factor may follow without an operator."""
        kind, value, _ = self.peek()
        if value == "(" and self.peek(1).value in ("mod", "bmod"):
            return False
        if kind in _STARTS:
            return not (self.differential and kind == "sym" and value == "d" and self.peek(1).kind == "sym")
        if kind == "cmd":
            return value in _START_COMMANDS
        return (value in ("(", "{", "\\{", "%", "|", "||") and not (value in ("|", "||") and self.bars)) or (
            value == "[" and self.bracketed()
        )

    def bracketed(self) -> bool:
        """Whether `[` opens a plain bracketed factor: it closes with `]` and holds no comma."""
        depth = 0
        for token in self.tokens[self.at :]:
            depth += (token.value in ("[", "(")) - (token.value in ("]", ")"))
            if depth == 0:
                return token.value == "]"
            if token.value == "," and depth == 1:
                return False
        return False

    def juxtapose(self, factors: list[Node]) -> None:
        """Append a factor written right after another: a product, a mixed number, or "5 feet 3 inches"."""
        previous, token = factors[-1], self.peek()
        if token.kind == "num" and previous.kind == "num":
            mixed = self.mixed(previous)
            if mixed is None:
                raise Unreadable("two numbers side by side")
            factors[-1] = mixed
            return
        if self.on("frac") and previous.kind == "num" and self.tokens[self.at - 1].kind == "num":
            fraction = self.factor()
            if fraction.kind == "pct" and _proper(fraction.args[0]) and previous.value.ulp is None:
                factors[-1] = Node("pct", (add(previous, fraction.args[0]),))
            elif _proper(fraction) and previous.value.ulp is None:
                factors[-1] = add(previous, fraction)
            else:
                factors.append(fraction)
            return
        if token.kind == "num" and previous.kind == "noun" and not any(f.kind == "num" for f in factors):
            raise Unreadable("words before a number")
        if token.kind == "num" and previous.kind in ("unit", "noun"):
            factors[:] = [add(mul(*factors), self.product())]
            return
        factors.append(self.factor())

    def mixed(self, whole: Node) -> Node | None:
        """`3 1/2`, plain: whole number, then a fraction of integers."""
        if (
            self.peek(1).value != "/"
            or self.peek(2).kind != "num"
            or not self.peek().gap
            or whole.value.ulp is not None
        ):
            return None
        top, bottom = self.number(), (self.next(), self.number())[1]
        if bottom.value.value == 0 or top.value.value >= bottom.value.value:
            return None
        return add(whole, mul(top, inv(bottom)))

    # powers and postfix -----------------------------------------------------------------------------------------------
    def factor(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge(f"more than {MAX_DEPTH} levels")
        node = self.postfix(self.atom())
        if self.on("^"):
            node = self.raised(node)
        self.depth -= 1
        return node

    def raised(self, base: Node) -> Node:
        """`base ^ exponent` and what may follow it. `^\\circ` is a degree sign, `^{\\prime}` belongs to a name."""
        self.next()
        if self.take("circ"):
            return self.postfix(self.degrees(base))
        if self.on("{") and self.peek(1).value == "circ" and self.peek(2).value == "}":
            self.at += 3
            return self.postfix(self.degrees(base))
        if self.take("'") or (self.on("{") and self.peek(1).value == "'"):
            raise Unreadable("a derivative")
        exponent = self.exponent()
        if exponent.kind == "noun" and exponent.value in ("st", "nd", "rd", "th"):
            return base
        return self.postfix(power(base, exponent))

    def degrees(self, base: Node) -> Node:
        """`90^\\circ`, or a temperature where C or F follows."""
        scale = {"C": "celsius", "F": "fahrenheit", "celsius": "celsius", "fahrenheit": "fahrenheit"}.get(
            self.peek().value
        )
        if scale and self.peek().kind in ("sym", "unit", "noun"):
            self.next()
            return mul(base, Node("unit", (), scale))
        return mul(base, Node("unit", (), "deg"))

    def exponent(self) -> Node:
        """What stands after `^`: a signed factor, so that `2^-3` and `e^-x` read as meant."""
        if self.on("-", "+"):
            return self.signed_factor()
        if self.on("{"):
            self.next()
            if self.peek().kind == "sym" and self.peek().value in ("t", "s", "r", "n") and self.peek(2).value == "}":
                ending = self.peek().value + self.peek(1).value
                if ending in ("th", "st", "rd", "nd"):
                    self.at += 3
                    return Node("noun", (), ending)
            inner = self.sum()
            self.expect("}")
            return inner
        return self.factor()

    def postfix(self, node: Node) -> Node:
        """Factorials and percent signs after an atom."""
        count = 0
        while self.on("!", "%"):
            if self.next().value == "%":
                node = Node("pct", (node,))
            else:
                double = self.take("!") is not None
                node = func("doublefactorial" if double else "factorial", node)
            count += 1
            if count > 3:
                raise TooLarge("a chain of factorials")
        if self.peek().kind == "power" and self.peek().value in ("squared", "cubed"):
            node = power(node, num(2 if self.next().value == "squared" else 3))
        return node

    def atom(self) -> Node:
        raise NotImplementedError

    def number(self) -> Node:
        raise NotImplementedError


def _proper(node: Node) -> bool:
    """Whether a node is a fraction of two positive integer literals, as in a mixed number."""
    if node.kind != "mul" or len(node.args) != 2 or node.args[1].kind != "inv":
        return False
    parts = (node.args[0], node.args[1].args[0])
    return all(p.kind == "num" and p.value.ulp is None for p in parts) and parts[0].value.value < parts[1].value.value
