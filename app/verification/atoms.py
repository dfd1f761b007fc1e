"""The smallest parts of an expression: numbers, names, functions with their arguments, bars and brackets."""

from __future__ import annotations

from fractions import Fraction

from app.verification import numbers
from app.verification.grammar import ExpressionParser
from app.verification.lexer import Token
from app.verification.limits import MAX_DEPTH, MAX_DIGITS, TooLarge, Unreadable
from app.verification.tree import INF, ONE, PI, E, I, Node, func, inv, mul, neg, num, power, sym
from app.verification.units import EMPTY_WORDS, MULTIPLIERS

_OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "<<": ">>"}


class AtomParser(ExpressionParser):
    """Values. Subclasses supply `command`, and `group`, what brackets may hold."""

    def atom(self) -> Node:
        kind, value, _ = self.peek()
        if kind == "num":
            return self.counted(self.number())
        if kind == "sym":
            return self.symbol()
        if kind == "op":
            return self.bracket(value)
        if kind == "cmd":
            return self.command(value)
        self.next()
        if kind == "const":
            return {"pi": PI, "inf": INF}[value]
        if kind == "unit":
            return Node("unit", (), value)
        if kind == "noun":
            return ONE if value in EMPTY_WORDS and self.at > 1 else Node("noun", (), value)
        if kind == "fn":
            return self.applied(value)
        if kind == "currency":
            return mul(self.factor() if not self.on("-") else self.signed_factor(), Node("unit", (), value))
        if kind == "power":
            return power(self.factor(), num(2 if value in ("square", "sq") else 3))
        raise Unreadable(f"{value or 'the end'!r} where a value should stand")

    def number(self) -> Node:
        token = self.next()
        if token.kind != "num":
            raise Unreadable(f"{token.value!r} where a number should stand")
        return num(literal(token.value))

    def counted(self, node: Node) -> Node:
        """A number, with "million" after it, or a base below it as in `1011_2`."""
        while self.peek().kind == "times":
            node = mul(node, num(MULTIPLIERS[self.next().value]))
        if self.on("_"):
            digits = self.tokens[self.at - 1].value
            self.next()
            base = self.argument()
            if base.kind != "num" or base.value.value.denominator != 1 or not 2 <= base.value.value <= 36:
                raise Unreadable("a base that is no number from 2 to 36")
            return based(digits, int(base.value.value))
        return node

    def symbol(self) -> Node:
        """A letter, its subscript and primes; e and i are the constants."""
        name = self.next().value
        if name in ("C", "A") and (chosen := self.selection(name)) is not None:
            return chosen
        if self.on("_"):
            self.next()
            name = f"{name}_{self.subscript()}"
        while self.take("'"):
            name += "'"
        return {"e": E, "i": I}.get(name) or sym(name)

    def selection(self, name: str) -> Node | None:
        """`C_5^2` and `A_5^2`: combinations and arrangements, where both are numbers and the upper is no larger."""
        values = []
        at = self.at
        for mark in ("_", "^"):
            if self.tokens[at].value != mark:
                return None
            at += 1
            braces = self.tokens[at].value == "{"
            token = self.tokens[at + braces] if at + braces < len(self.tokens) else self.tokens[-1]
            if token.kind != "num" or not token.value.isdigit() or len(token.value) > 3:
                return None
            values.append(int(token.value))
            at += 3 if braces else 1
            if at >= len(self.tokens):
                return None
        n, k = values
        if k > n:
            return None
        self.at = at
        ways = func("binom", num(n), num(k))
        return ways if name == "C" else mul(ways, func("factorial", num(k)))

    def subscript(self) -> str:
        if not self.take("{"):
            token = self.next()
            return token.value
        parts = []
        while not self.on("}"):
            token = self.next()
            if token.kind == "end":
                raise Unreadable("a subscript that does not close")
            parts.append(token.value)
        self.next()
        return "".join(parts)

    def over(self, top: Node) -> Node:
        """`a \\over b`, which takes in all of its group."""
        return mul(top, inv(self.sum())) if self.take("over") else top

    def argument(self) -> Node:
        """The argument of a LaTeX command: a brace group, or one token, of a number only its first digit."""
        if self.take("{"):
            inner = self.over(self.sum())
            self.expect("}")
            return inner
        token = self.peek()
        if token.kind == "num" and len(token.value) > 1:
            self.tokens[self.at] = Token("num", token.value[1:])
            return num(literal(token.value[0]))
        if token.kind == "op" and token.value not in ("(",):
            raise Unreadable(f"{token.value!r} where an argument should stand")
        return self.factor_without_power()

    def bracket(self, value: str) -> Node:
        if value in ("|", "||"):
            self.next()
            self.bars += 1
            inner = self.sum()
            self.bars -= 1
            self.expect(value)
            return func("abs", inner)
        if value in _OPENING or value == "]":
            return self.group()
        raise Unreadable(f"{value!r} where a value should stand")

    def applied(self, name: str) -> Node:
        """A function and its argument, with `\\sin^2 x`, `\\sin^{-1} x` and `\\log_2 x`."""
        base = exponent = None
        for _ in range(2):
            if self.on("_") and base is None:
                self.next()
                base = self.argument()
            elif self.on("^") and exponent is None:
                self.next()
                exponent = self.exponent()
        if name in ("sqrt", "cbrt"):
            node = self.root(name)
        else:
            node = self.call(name, base, self.function_arguments())
        if exponent is None:
            return node
        if exponent == neg(ONE) and name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"):
            return func("arc" + name if len(name) == 3 else "ar" + name, *node.args)
        return power(node, exponent)

    def call(self, name: str, base: Node | None, args: tuple[Node, ...]) -> Node:
        if name in ("log", "lg"):
            return func("log", base if base is not None else num(10), args[0])
        if name == "exp":
            return power(E, args[0])
        if name in ("min", "max", "gcd", "lcm", "diag"):
            return func(name, *args)
        if name == "binom":
            if len(args) != 2:
                raise Unreadable("a binomial of other than two arguments")
            return func("binom", *args)
        if len(args) != 1:
            raise Unreadable(f"{name} of {len(args)} arguments")
        return func(name, args[0])

    def function_arguments(self) -> tuple[Node, ...]:
        """Arguments in brackets, or an implicit product: `\\sin 2x`, `\\ln|x|`."""
        if self.on("(", "[", "{", "\\{"):
            inner = self.group()
            return inner.args if inner.kind == "seq" else (inner,)
        sign = self.take("-")
        factors = [self.factor()]
        while (self.starts_factor() and self.peek().kind in ("num", "sym", "const")) or self.on("frac", "sqrt"):
            if self.differential and self.peek().value == "d":
                break
            if self.peek().value == "e" and self.peek(1).value == "^":
                break  # `\sin x e^{-x}` is a product
            self.juxtapose(factors)
        node = mul(*factors)
        return (neg(node) if sign else node,)

    def root(self, name: str) -> Node:
        index = num(3 if name == "cbrt" else 2)
        if name == "sqrt" and self.take("["):
            index = self.sum()
            self.expect("]")
        if self.on("{"):
            inner = self.argument()
        else:
            inner = self.factor_without_power()
        return func("root", index, inner)

    def factor_without_power(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge(f"more than {MAX_DEPTH} levels")
        node = self.atom()
        self.depth -= 1
        return node

    def command(self, name: str) -> Node:
        raise NotImplementedError


def literal(text: str) -> numbers.Number:
    """The exact number a number token stands for; `0.1(6)` has a repeating end."""
    if len(text) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(text)} digits")
    if text.endswith(")"):
        head, period = text[:-1].split("(")
        whole, fraction = head.split(".")
        top = int(whole + fraction + period) - int(whole + fraction)
        return numbers.Number(Fraction(top, (10 ** len(period) - 1) * 10 ** len(fraction)))
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    return numbers.decimal(whole or "0", fraction, exponent=int(exponent) if exponent else 0)


def based(digits: str, base: int) -> Node:
    """The node of an integer written in a base. Raises Unreadable where a digit is not one of that base."""
    try:
        int(digits, base)
    except ValueError:
        raise Unreadable(f"{digits!r} in base {base}") from None
    return Node("base", (), (digits.lstrip("0").lower() or "0", base))
