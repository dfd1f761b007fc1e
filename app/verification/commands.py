"""LaTeX commands that stand where a value may: fractions, roots, sums and integrals, matrices."""

from __future__ import annotations

from app.verification.atoms import AtomParser
from app.verification.limits import Unreadable
from app.verification.tree import ZERO, I, Node, add, func, inv, mul, neg, replace, sym

_SPACES = frozenset("RZNQC")
_PARTS = {
    ("ge", "0"): (2, ">=0"),
    ("le", "0"): (2, "<=0"),
    (">", "0"): (2, "+"),
    ("<", "0"): (2, "-"),
    ("ne", "0"): (2, "*"),
    ("+",): (1, "+"),
    ("-",): (1, "-"),
    ("*",): (1, "*"),
    ("0",): (1, ">=0"),
}
_SAME_SPACES = {"N+": "Z+", "N>=0": "Z>=0", "N*": "Z+", "Z*": "Z*"}
_MATRICES = frozenset(
    [
        "matrix",
        "pmatrix",
        "bmatrix",
        "Bmatrix",
        "vmatrix",
        "Vmatrix",
        "smallmatrix",
        "array",
        "cases",
        "aligned",
        "align*",
        "gathered",
    ]
)


class CommandParser(AtomParser):
    """Expressions with LaTeX commands. A subclass supplies `group`, what brackets may hold."""

    def command(self, name: str) -> Node:
        self.next()
        if name == "frac":
            top = self.argument()
            return mul(top, inv(self.argument()))
        if name in ("sqrt", "cbrt"):
            return self.root(name)
        if name == "binom":
            return func("binom", self.argument(), self.argument())
        if name in ("lfloor", "lceil"):
            inner = self.sum()
            self.expect("rfloor" if name == "lfloor" else "rceil")
            return func("floor" if name == "lfloor" else "ceil", inner)
        if name == "circ":
            return Node("unit", (), "deg")
        if name in ("angle", "triangle"):
            return sym(f"{name} {self.next().value}") if self.peek().kind == "sym" else sym(name)
        if name in ("Re", "Im"):
            return func(name.lower(), *self.function_arguments())
        if name == "i":
            return I
        if name == "ldots":
            return Node("dots")
        if name == "emptyset":
            return Node("empty")
        if name in _SPACES:
            return Node("space", (), _SAME_SPACES.get(found := name + (self.half() or self.signed_part()), found))
        if name == "begin":
            return self.environment()
        if name in ("sum", "prod", "int", "lim"):
            return self.big(name)
        raise Unreadable(f"\\{name}")

    def half(self) -> str:
        """The sign of `\\mathbb{R}^+`, empty where there is none."""
        braces = self.peek(1).value == "{"
        sign = self.peek(2 if braces else 1).value
        if not self.on("^") or sign not in ("+", "-"):
            return ""
        self.at += 4 if braces else 2
        return sign

    def signed_part(self) -> str:
        """The sign of `\\mathbb{R}_{\\ge 0}`, `\\mathbb{Z}_{>0}`, `\\mathbb{N}_0`; empty where there is none."""
        if not self.on("_", "^"):
            return ""
        braces = self.peek(1).value == "{"
        values = [self.peek(i + 1 + braces).value for i in range(3)]
        for written, (length, sign) in _PARTS.items():
            if tuple(values[:length]) == written and (not braces or values[length : length + 1] == ["}"]):
                self.at += 1 + length + 2 * braces
                return sign
        return ""

    def big(self, name: str) -> Node:
        """`\\sum_{i=a}^{b} f`, `\\int_a^b f\\,dx`, `\\lim_{x \\to a} f`: a `big` node of variable, bounds and body."""
        low: Node | None = None
        high: Node | None = None
        variable = sym("x")
        for _ in range(2):
            if self.take("_"):
                if name == "int":
                    low = self.bound()
                    continue
                self.expect("{")
                variable = self.symbol()
                self.expect("=" if name != "lim" else "to")
                low = self.sum()
                self.expect("}")
            elif self.take("^"):
                high = self.bound()
        self.differential += name == "int"
        body = self.sum() if name == "int" else self.product()
        self.differential -= name == "int"
        if name == "int":
            if self.peek().value != "d" or self.peek(1).kind != "sym":
                raise Unreadable("an integral without dx")
            self.next()
            variable = self.symbol()
        if name == "int" and low is None and high is None:
            return Node("big", (variable, ZERO, ZERO, body), "primitive")
        if low is None or (high is None and name != "lim"):
            raise Unreadable(f"\\{name} without bounds")
        if variable == I:  # an index, not the imaginary unit
            variable = sym("i")
            body = replace(body, I, variable)
        return Node("big", (variable, low, high if high is not None else low, body), name)

    def bound(self) -> Node:
        if self.on("-"):
            return self.signed_factor()
        return self.argument()

    def environment(self) -> Node:
        """`\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}`: a matrix of rows."""
        name = self.name_in_braces()
        if name not in _MATRICES:
            raise Unreadable(f"\\begin{{{name}}}")
        if name == "array" and self.take("{"):
            while not self.take("}"):
                if self.next().kind == "end":
                    raise Unreadable("an array without columns")
        rows: list[Node] = []
        cells: list[Node] = []
        while not self.take("end"):
            if self.take("&"):
                continue
            if self.take("newline", "hline"):
                if cells:
                    rows.append(Node("row", tuple(cells)))
                    cells = []
                continue
            cells.append(self.cell())
        if self.name_in_braces() != name:
            raise Unreadable(f"\\begin{{{name}}} ended by another name")
        if cells:
            rows.append(Node("row", tuple(cells)))
        if name in ("cases", "aligned", "align*", "gathered"):
            return Node("seq", tuple(c for row in rows for c in row.args), "")
        if not rows or len({len(r.args) for r in rows}) != 1:
            raise Unreadable("a matrix with rows of different lengths")
        matrix = Node("matrix", tuple(rows))
        return determinant([row.args for row in rows]) if name == "vmatrix" else matrix

    def cell(self) -> Node:
        return self.sum()

    def name_in_braces(self) -> str:
        self.expect("{")
        name = ""
        while not self.on("}"):
            token = self.next()
            if token.kind == "end":
                raise Unreadable("an environment without a name")
            name += token.value
        self.next()
        return name


def determinant(rows: list[tuple[Node, ...]]) -> Node:
    """The determinant of a square of cells as an expression, along the first row. Raises Unreadable past 4 x 4."""
    if len(rows) > 4 or any(len(r) != len(rows) for r in rows):
        raise Unreadable("a determinant that is no square of at most 4 x 4")
    if len(rows) == 1:
        return rows[0][0]
    terms = []
    for i, cell in enumerate(rows[0]):
        term = mul(cell, determinant([row[:i] + row[i + 1 :] for row in rows[1:]]))
        terms.append(neg(term) if i % 2 else term)
    return add(*terms)
