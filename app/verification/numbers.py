"""Plain numbers: reading them exactly, and the precision a decimal reference asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from app.verification.limits import MAX_DIGITS, TooLarge

_PLAIN = re.compile(
    r"(?:\\?\$)? ?([-+\u2212]?) ?(?:\\?\$)? ?"
    r"(?:([1-9]\d{0,2}(?:(?:,|\{,\}|\\,|\\!,|,\\!)\d{3})+|\d+)(?:\.(\d*))?|\.(\d+))\.?",
    re.ASCII,
)
_GROUPING = re.compile(r"[^\d]+")


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value. `ulp` is one unit of the last decimal place as written, None for an exact (integer) form."""

    value: Fraction
    ulp: Fraction | None = None
    digits: int = 0  # significant digits as written, for decimals
    places: int = 0  # decimal places as written

    @property
    def rounded(self) -> bool:
        """Whether the form is precise enough to stand for a rounded value: 3 significant digits, or 2 in 2 places.

        A shorter decimal such as 0.5 is read as exact: rounding to one digit would accept answers 10% off.
        """
        return self.ulp is not None and (self.digits >= 3 or (self.digits >= 2 and self.places >= 2))


def plain(text: str) -> Number | None:
    """A plain integer or decimal, with thousands commas and a currency sign or not; None for anything else.

    Raises TooLarge for more digits than arithmetic is done on.
    """
    text = text.strip()
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, bare = match.groups()
    if len(text) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(text)} characters")
    whole = _GROUPING.sub("", whole) if whole else "0"
    return decimal(whole, bare or fraction or "", negative=sign not in ("", "+"))


def decimal(whole: str, fraction: str, *, negative: bool = False, exponent: int = 0) -> Number:
    """The number `whole.fraction` times 10^exponent, with the precision its digits claim."""
    if len(whole) + len(fraction) + abs(exponent) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(whole) + len(fraction)} digits and exponent {exponent}")
    units = int(whole + fraction)
    if negative:
        units = -units
    places = len(fraction) - exponent
    if places == 0 and not fraction:
        return Number(Fraction(units))
    scale = Fraction(1, 10**places) if places >= 0 else Fraction(10**-places)
    if not fraction:
        return Number(units * scale)
    return Number(units * scale, scale, len((whole + fraction).lstrip("0")), len(fraction))


def agrees(reference: Number, value: Fraction) -> bool:
    """Whether an exact value meets the precision of the reference: equal, or equal once rounded to its last place."""
    if reference.value == value:
        return True
    if not reference.rounded or reference.ulp is None:
        return False
    size, target = abs(value), abs(reference.value)
    same_side = (value < 0) == (reference.value < 0)
    return same_side and target - reference.ulp / 2 <= size < target + reference.ulp / 2
