"""Ways of writing an answer, kind by kind: pairs that are the same, pairs that are not, boxes without a number."""

from __future__ import annotations

Pair = tuple[str, str]

SAME: dict[str, list[Pair]] = {
    "clock": [
        ("12:00", "noon"),
        ("2:30 PM", "14:30"),
        ("7:05", "7:05 a.m."),
        ("12:00", "12:00:00"),
        ("9:15", "\\text{9:15}"),
        ("0:30", "00:30"),
    ],
    "ratio": [
        ("2:3", "4:6"),
        ("1:2:3", "2:4:6"),
        ("3:10", "3/10"),
        ("3 : 10", "6 : 20"),
        ("25:30", "5:6"),
        ("5:0", "5:0"),
        ("0:5", "0 : 5"),
    ],
}
DIFFERENT: dict[str, list[Pair]] = {
    "clock": [
        ("12:00", "3:00"),
        ("10:00", "11:00"),
        ("1:20", "2:40"),
        ("2:15", "4:30"),
        ("3:00 PM", "3:00 AM"),
        ("1:05", "2:10"),
        ("7:45", "7:54"),
        ("11:00", "23:30"),
    ],
    "ratio": [
        ("2:3", "3:2"),
        ("5:0", "3:0"),
        ("0:5", "0:3"),
        ("2:0:1", "4:0:3"),
        ("1:0", "0:1"),
        ("0:0", "1:2"),
    ],
    "words that change a number": [
        ("7", "divisible by 7"),
        ("7", "a multiple of 7"),
        ("7", "multiples of 7"),
        ("7", "a factor of 7"),
        ("7", "\\text{a divisor of } 7"),
        ("7", "a power of 7"),
        ("7", "close to 7"),
    ],
}
# Boxes that cannot be read, with a number in them that nobody gave as the answer.
UNREAD: list[Pair] = [
    ("2", "\\oint_C 2\\,ds"),
    ("2", "\\iint_D 2\\,dA"),
    ("2", "n\\equiv k \\pmod 2"),
    ("2", "x^2 @ y"),
    ("5", "\\mathbb{Z}_5"),
    ("5", "\\gg 5"),
    ("3", "p \\nmid 3"),
    ("2", "\\|x\\|_2"),
    ("2", "\\operatorname{Res}_{z=2} f"),
    ("1", "\\mathbf{1}_{A}"),
    ("2", "\\arg\\max_{k\\le 2} f"),
    ("2", "\\mathrm{SL}_2(\\mathbb{R})"),
    ("4", "\\Gamma \\vdash 4"),
    ("6", "\\langle 6 | \\psi \\rangle"),
    ("3", "\\ddot{x} + 3"),
    ("8", "\\star 8 \\star"),
    ("9", "9 \\wr G"),
    ("2", "\\nabla^2 f"),
    ("3", "S_3 \\rtimes H"),
    ("4", "4 ~~~ @"),
    ("10", "\\log_{10"),
    ("7", "\\sqrt[7]{"),
]
