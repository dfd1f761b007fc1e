"""Units: their dimensions and exact scales, and the words that only multiply."""

from __future__ import annotations

from fractions import Fraction as F

# One row a dimension: unit names, each with its exact scale to the first.
_TABLE: dict[str, list[tuple[str, F]]] = {
    "length": [
        ("m meter meters metre metres", F(1)),
        ("cm centimeter centimeters centimetre centimetres", F(1, 100)),
        ("mm millimeter millimeters millimetre millimetres", F(1, 1000)),
        ("km kilometer kilometers kilometre kilometres kms", F(1000)),
        ("inch inches in ins", F(254, 10000)),
        ("ft foot feet", F(3048, 10000)),
        ("yd yard yards yds", F(9144, 10000)),
        ("mi mile miles", F(1609344, 1000)),
        ("nm nanometer nanometers", F(1, 10**9)),
        ("um micrometer micrometers micron microns", F(1, 10**6)),
    ],
    "mass": [
        ("g gram grams", F(1)),
        ("kg kilogram kilograms kgs kilo kilos", F(1000)),
        ("mg milligram milligrams", F(1, 1000)),
        ("lb lbs pound pounds", F(45359237, 100000)),
        ("oz ounce ounces", F(45359237, 1600000)),
        ("tonne tonnes", F(10**6)),
        ("ton tons", F(90718474, 100)),
    ],
    "time": [
        ("s sec secs second seconds", F(1)),
        ("min mins minute minutes", F(60)),
        ("h hr hrs hour hours", F(3600)),
        ("day days", F(86400)),
        ("week weeks", F(604800)),
        ("ms millisecond milliseconds", F(1, 1000)),
    ],
    "calendar": [
        ("month months", F(1)),
        ("year years yr yrs", F(12)),
        ("decade decades", F(120)),
        ("century centuries", F(1200)),
    ],
    "volume": [
        ("l liter liters litre litres", F(1, 1000)),
        ("ml milliliter milliliters millilitre millilitres", F(1, 10**6)),
        ("cl centiliter centiliters", F(1, 10**5)),
        ("gallon gallons gal", F(3785411784, 10**12)),
        ("quart quarts qt", F(946352946, 10**12)),
        ("pint pints pt", F(473176473, 10**12)),
        ("cup cups", F(2365882365, 10**13)),
    ],
    "dollar": [("dollar dollars usd buck bucks", F(1)), ("cent cents penny pennies", F(1, 100))],
    "euro": [("euro euros eur", F(1))],
    "sterling": [("gbp", F(1)), ("pence", F(1, 100))],
    "rupee": [("rupee rupees rs inr", F(1))],
    "angle": [("deg degree degrees", F(1)), ("arcmin", F(1, 60))],
    "radian": [("rad rads radian radians", F(1))],
    "celsius": [("celsius", F(1))],
    "fahrenheit": [("fahrenheit", F(1))],
    "kelvin": [("kelvin kelvins", F(1))],
    "force": [("newton newtons", F(1))],
    "energy": [
        ("joule joules", F(1)),
        ("kj kilojoule kilojoules", F(1000)),
        ("calorie calories cal", F(4184, 1000)),
        ("kcal", F(4184)),
    ],
    "power": [("watt watts", F(1)), ("kw kilowatt kilowatts", F(1000))],
    "voltage": [("volt volts", F(1))],
    "current": [("amp amps ampere amperes", F(1))],
    "resistance": [("ohm ohms", F(1))],
    "frequency": [("hz hertz", F(1)), ("khz", F(1000)), ("mhz", F(10**6))],
    "pressure": [("pa pascal pascals", F(1)), ("kpa", F(1000)), ("atm", F(101325))],
    "bit": [("bit bits", F(1)), ("byte bytes", F(8))],
}

UNITS: dict[str, tuple[dict[str, int], F]] = {}
for _dimension, _rows in _TABLE.items():
    for _names, _scale in _rows:
        for _name in _names.split():
            UNITS[_name] = ({"length": 3} if _dimension == "volume" else {_dimension: 1}, _scale)
for _name in ("mph",):
    UNITS[_name] = ({"length": 1, "time": -1}, F(1609344, 3600000))
for _name in ("kph", "kmh", "kmph"):
    UNITS[_name] = ({"length": 1, "time": -1}, F(1000, 3600))
for _name in ("acre", "acres"):
    UNITS[_name] = ({"length": 2}, F(40468564224, 10**7))
for _name in ("hectare", "hectares"):
    UNITS[_name] = ({"length": 2}, F(10**4))

# Letters that are units only where a text command or a space after a number says so.
LETTERS: dict[str, str] = {
    "m": "m",
    "g": "g",
    "s": "s",
    "h": "h",
    "L": "l",
    "l": "l",
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "V": "volt",
    "A": "amp",
    "C": "celsius",
    "F": "fahrenheit",
    "K": "kelvin",
}
PLAIN_LETTERS = frozenset("mgshL")

MULTIPLIERS = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "crore": 10**7,
    "dozen": 12,
    "gross": 144,
    "score": 20,
    "k": 1000,
}
MULTIPLIERS |= {f"{word}s": n for word, n in MULTIPLIERS.items() if len(word) > 1}
COUNT_WORDS = {
    word: i
    for i, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
# Words beside a number that carry no meaning of their own.
EMPTY_WORDS = frozenset(
    [
        "unit",
        "units",
        "a",
        "an",
        "the",
        "total",
        "in",
        "of",
        "each",
        "altogether",
        "all",
        "more",
        "left",
        "about",
        "approximately",
        "roughly",
        "exactly",
        "only",
        "just",
        "is",
        "are",
        "be",
        "per-unit",
        "respectively",
        "remaining",
        "extra",
        "additional",
        "away",
        "old",
        "tall",
        "long",
        "wide",
        "high",
        "deep",
        "side",
        "sides",
        "worth",
    ]
)


def stem(word: str) -> str:
    """Enough of a stem to see that "apple" and "apples" are one word."""
    word = word.lower()
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + replacement
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
