"""Bounds on what the verifier reads and computes, and the errors raised when one is passed.

Every bound is checked before the work it protects is begun. Sizes are in characters, tokens, digits, bits or nodes.
"""

from __future__ import annotations

MAX_TRACE = 400_000  # characters of a trace that are looked at, from its end
MAX_SENTENCE = 1_000  # characters of a sentence that is read for what it says
MAX_TAIL = 20_000  # characters at the end of a trace in which phrases, bold text and bare numbers are looked for
MAX_ANSWER = 8_000  # characters of one answer that are parsed; longer ones are compared as text only
MAX_TOKENS = 4_000
MAX_DEPTH = 40  # nested groups
MAX_NODES = 4_000
MAX_DIGITS = 4_000  # digits of a number that arithmetic is done on; longer ones are compared as digit strings
MAX_BITS = 20_000  # bits of an exact number while evaluating
MAX_FACTORIAL = 1_000
MAX_TERMS = 2_000  # terms of a finite sum or product
MAX_ITEMS = 1_000  # members of a set, list or matrix
MAX_SYMBOLS = 12  # distinct free symbols in one expression


class Unreadable(ValueError):
    """The text is not an answer this grammar knows: nothing may be concluded from part of it."""


class TooLarge(Unreadable):
    """The text passes a bound on bytes, tokens, depth, digits or members."""


class TooCostly(ArithmeticError):
    """Evaluating would pass a bound on bits, terms or magnitude. Refused before it is begun."""


class Undefined(ArithmeticError):
    """The expression has no value: 0/0, log 0, a zeroth root. Nothing equals it."""
