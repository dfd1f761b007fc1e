"""Kind-directed comparison of two answer trees: lists, sets, matrices, equations, quantities, values."""

from __future__ import annotations

from fractions import Fraction

from app.verification.canonical import as_rational, exact
from app.verification.congruences import has_congruence, of_naturals, same_congruence
from app.verification.limits import TooCostly
from app.verification.members import (
    added_up,
    all_named,
    alternatives,
    as_equation,
    as_written,
    declares,
    distinct,
    dots,
    exact_rational,
    expand_signs,
    is_infinite,
    keyed,
    quotient,
    restricts,
    rows,
    set_variable,
    unknowns,
    unlabelled,
)
from app.verification.progressions import same_dotted
from app.verification.quantities import Quantity, degrees_as_radians, has_units, quantity
from app.verification.relations import Named, named, same_equation
from app.verification.sets import looks_like_set, same_set, to_set
from app.verification.tree import Node, num, replace, seq, sym, symbols, walk
from app.verification.values import Tally, same_value
from app.verification.vectors import identities, in_units, is_array, is_line, reduced, same_line

_LISTS = frozenset({"", "or", "{}"})
_MAX_LOOSE = 24  # members compared pair by pair, after those with exact values are matched


class Matcher:
    """One comparison: the policies of docs/verifier.md, over trees."""

    def __init__(self, tally: Tally, question: str | None) -> None:
        self.tally = tally
        self.question = question

    def same(self, reference: Node, answer: Node) -> bool:
        """Whether they are the same. Raises FalseChain, Undefined, TooCostly, SandboxTimeout, SandboxError."""
        written = reference, answer
        reference, answer = self.settled(reference), self.settled(answer)
        if has_congruence(reference) or has_congruence(answer):
            return not any(map(of_naturals, written)) and same_congruence(reference, answer, self.tally)
        if looks_like_set(reference) or looks_like_set(answer):
            return self.same_sets(reference, answer)
        left = named(reference, self.question, self.tally, sums=reference.kind != "rel")
        right = named(answer, self.question, self.tally, sums=reference.kind != "rel")
        if left is None or right is None:
            return self.same_equations(reference, answer)
        if left.label is not None and right.label is not None:
            right = _renamed(left, right)
        if left.label is not None and right.label is not None and not self.same_label(left.label, right.label):
            return self.same_equations(reference, answer)
        if self.same_bodies(left.value, right.value):
            return True
        if is_line(left.value) and not any(n is not None and n.kind == "call" for n in (left.label, right.label)):
            return same_line(left.value, right.value)
        # a rounded form beside the exact one: "2/3 \approx 0.67"
        return any(self.same_bodies(left.value, r) for r in right.rounded) or (
            bool(left.rounded) and any(self.same_bodies(r, right.value) for r in left.rounded)
        )

    def settled(self, node: Node) -> Node:
        """The answer without conditions on its symbols; an integer parameter gets one name whatever it was called."""
        if node.kind == "mul" and len(node.args) == 2 and node.args[0].kind == "sym" and node.args[1].kind == "seq":
            return node.args[1]  # a named point, P(1, 2)
        if node.kind == "pow" and node.args[0].kind == "seq" and node.args[1] == sym("T"):
            return seq(node.args[0].args, "()")  # a row written to be turned into a column
        if node.kind != "seq" or node.value not in ("", "or", "where"):
            return node
        kept = [a for a in node.args if not declares(a)]
        compound = added_up(kept)
        if compound is not None:
            return compound
        if node.value == "where" and kept:
            kept = kept[:1] if not looks_like_set(kept[0]) and not all_named(kept) else kept
        if kept and kept[0].kind != "rel" and not looks_like_set(kept[0]) and all(restricts(a) for a in kept[1:]):
            kept = kept[:1]
        parameters = sorted({name for a in node.args if declares(a) for name in symbols(a.args[0])} - {"x", "y", "z"})
        body = kept[0] if len(kept) == 1 else Node("seq", tuple(kept), "" if node.value == "where" else node.value)
        if not kept:
            return node
        for i, name in enumerate(parameters):
            body = replace(body, sym(name), sym(f"integer {i}"))
        return body

    def same_label(self, reference: Node, answer: Node) -> bool:
        """Whether two names may stand for one thing: equal symbols, or words."""
        if reference.kind == "sym" and answer.kind == "sym":
            return reference.value.casefold() == answer.value.casefold()
        if reference.kind == "seq" and answer.kind == "seq":
            return reference.args == answer.args
        if reference.kind == "call" and answer.kind == "call" and reference.value[0] == answer.value[0]:
            return bool(reference.value == answer.value)
        kinds = {reference.kind, answer.kind}
        if kinds & {"add", "mul", "func"} and kinds <= {"add", "mul", "func", "sym"}:
            words = any(n.kind == "noun" for n in (*walk(reference), *walk(answer)))
            return words or reference == answer
        return True

    # sets -------------------------------------------------------------------------------------------------------------
    def same_sets(self, reference: Node, answer: Node) -> bool:
        left, right = to_set(unlabelled(reference)), to_set(unlabelled(answer))
        if left is not None and right is not None:
            names = set_variable(reference), set_variable(answer)
            if all(names) and names[0] != names[1]:
                return False
            self.tally.used("numeric")
            return same_set(left, right)
        if left is not None or right is not None:
            return self.same_listed_set(reference, answer)
        return self.same_structure(unlabelled(reference), unlabelled(answer))

    def same_listed_set(self, reference: Node, answer: Node) -> bool:
        """`{x | ...}` against a listed set is left to lists; an interval against a value is different."""
        left, right = unlabelled(reference), unlabelled(answer)
        if (
            left.kind == "seq"
            and right.kind == "seq"
            and left.value == right.value
            and len(left.args) == len(right.args)
        ):
            return self.same_structure(left, right)
        return False

    def same_structure(self, reference: Node, answer: Node) -> bool:
        """Set notation with symbols in it: the same shape, with equal members."""
        if reference.kind == "rel" and answer.kind == "rel" and len(reference.value) == 1:
            if reference.value[0] in ("in", "notin"):
                return reference.value == answer.value and all(
                    self.same_structure(a, b) for a, b in zip(reference.args, answer.args, strict=True)
                )
            return same_equation(reference, answer, self.tally)
        if reference.kind != answer.kind or reference.value != answer.value or len(reference.args) != len(answer.args):
            return False
        if reference.kind == "space":
            return True
        if reference.kind == "build":
            return self.same_builder(reference, answer)
        if reference.kind in ("union", "inter"):
            return self.matched(list(reference.args), list(answer.args), self.same_structure_or_value)
        if reference.kind in ("seq", "minus", "rel"):
            return all(self.same_structure_or_value(a, b) for a, b in zip(reference.args, answer.args, strict=True))
        return self.same_bodies(reference, answer)

    def same_structure_or_value(self, reference: Node, answer: Node) -> bool:
        if looks_like_set(reference) or looks_like_set(answer) or reference.kind == "rel":
            return self.same_structure(reference, answer)
        if any(n.kind == "const" and n.value == "inf" for n in (*walk(reference), *walk(answer))):
            return reference == answer
        return self.same_bodies(reference, answer)

    def same_builder(self, reference: Node, answer: Node) -> bool:
        """Set-builders, with the bound variable renamed where each has one."""
        left, right = symbols(reference.args[0]), symbols(answer.args[0])
        if len(left) == len(right) == 1:
            answer = replace(answer, sym(right.pop()), sym(left.pop()))
        return all(
            self.same_structure_or_value(self.settled(a), self.settled(b))
            for a, b in zip(reference.args, answer.args, strict=True)
        )

    # lists ------------------------------------------------------------------------------------------------------------
    def same_bodies(self, reference: Node, answer: Node) -> bool:
        """Compare two values, tuples, lists, matrices, ratios."""
        reference, answer = reduced(expand_signs(reference)), reduced(expand_signs(answer))
        if is_array(reference) != is_array(answer):
            reference, answer = _spread(reference, answer), _spread(answer, reference)
        if is_infinite(reference) or is_infinite(answer):
            return reference == answer
        if reference.kind == "matrix" or answer.kind == "matrix":
            return self.same_matrices(reference, answer)
        if reference.kind == "seq" or answer.kind == "seq":
            return self.same_lists(reference, answer)
        if reference.kind == "ratio" or answer.kind == "ratio":
            return self.same_ratios(reference, answer)
        if (
            "space" in (reference.kind, answer.kind)
            or "empty" in (reference.kind, answer.kind)
            or "build" in (reference.kind, answer.kind)
        ):
            return reference == answer
        if reference.kind == "rel" or answer.kind == "rel":
            return self.same(reference, answer)
        return self.same_quantities(reference, answer)

    def same_lists(self, reference: Node, answer: Node) -> bool:
        if reference.kind != "seq":
            return self.single(reference, answer)
        if answer.kind != "seq":
            if reference.value in _LISTS or reference.value == "[]":
                return len(reference.args) == 1 and self.same(reference.args[0], answer)
            return False
        ordered = self.ordered(reference, answer)
        if ordered is None:
            return False
        if dots(reference) or dots(answer):
            return same_dotted(reference.args, answer.args, self.same)
        ordered |= bool(unknowns(reference)) != bool(unknowns(answer)) and "{}" not in (reference.value, answer.value)
        left, right = self.members(reference, answer), self.members(answer, reference)
        if left is None or right is None:
            return False
        if reference.value == "{}" or answer.value == "{}" or "or" in (reference.value, answer.value):
            left, right = distinct(left), distinct(right)
        if len(left) != len(right):
            return False
        if ordered:
            return all(self.same(a, b) for a, b in zip(left, right, strict=True))
        return self.matched(left, right, self.same)

    def single(self, reference: Node, answer: Node) -> bool:
        """One value asked for: a list of one, or alternatives that are all right."""
        members = answer.args if answer.kind == "seq" else ()
        if answer.value == "or" or (answer.value in ("{}", "") and len(members) == 1):
            return bool(members) and all(self.same(reference, m) for m in members)
        return False

    def ordered(self, reference: Node, answer: Node) -> bool | None:
        """Whether order counts; None where the brackets cannot stand for one another."""
        left, right = reference.value, answer.value
        tuples = ("()", "<>", "[]")
        if left in tuples:
            if right in tuples:
                pair = len(reference.args) == 2 and {left, right} == {"()", "[]"}
                return None if pair else True
            return True if right == "" and not (left == "[]" and len(reference.args) == 2) else None
        if left in _LISTS:
            if right in _LISTS:
                return False
            return (False if left == "" else None) if right in tuples else None
        return True if left == right else None

    def members(self, node: Node, other: Node) -> list[Node]:
        """Members with plus-minus expanded; of `x = 1, y = 2` against a pair, the values by the order of the names."""
        names = unknowns(node)
        if names and not unknowns(other):
            by_name = (
                sorted(node.args, key=lambda a: a.args[0].value) if other.value in ("()", "<>", "[]") else node.args
            )
            return [a.args[-1] for a in by_name]
        out: list[Node] = []
        for member in node.args:
            out += alternatives(member)
        return out

    def matched(self, left: list[Node], right: list[Node], same: object) -> bool:
        """Whether members pair up one to one: exact values by lookup, the rest pair by pair."""
        left_loose, left_keys = keyed(left)
        right_loose, right_keys = keyed(right)
        for key, count in list(left_keys.items()):
            common = min(count, right_keys.get(key, 0))
            left_keys[key] -= common
            if common:
                right_keys[key] -= common
        left_loose += [num(k) for k, n in left_keys.items() for _ in range(n)]
        right_loose += [num(k) for k, n in right_keys.items() for _ in range(n)]
        # exact keys forget a decimal's precision: take those members back as they were written
        left_loose = as_written(left_loose, left)
        if len(left_loose) != len(right_loose):
            return False
        if len(left_loose) > _MAX_LOOSE:
            raise TooCostly("too many members without an exact value")
        for member in left_loose:
            for i, other in enumerate(right_loose):
                if same(member, other):  # type: ignore[operator]
                    del right_loose[i]
                    break
            else:
                return False
        return True

    def same_matrices(self, reference: Node, answer: Node) -> bool:
        left, right = rows(reference), rows(answer)
        if left is None or right is None or len(left) != len(right):
            return False
        if any(len(a) != len(b) for a, b in zip(left, right, strict=True)):
            return False
        return all(self.same_bodies(a, b) for r, s in zip(left, right, strict=True) for a, b in zip(r, s, strict=True))

    def same_ratios(self, reference: Node, answer: Node) -> bool:
        """`2:3` equals `4:6` and, of two parts, `2/3`. With a part of zero it is a score: equal part by part."""
        left = reference.args if reference.kind == "ratio" else None
        right = answer.args if answer.kind == "ratio" else None
        if left is None and right is not None and len(right) == 2:
            return self.same_quantities(reference, quotient(right))
        if right is None and left is not None and len(left) == 2:
            return self.same_quantities(quotient(left), answer)
        if left is None or right is None or len(left) != len(right):
            return False
        if any(exact(part) == {} for part in (*left, *right)):
            return all(self.same_quantities(a, b) for a, b in zip(left, right, strict=True))
        return all(
            self.same_quantities(Node("mul", (left[0], right[i])), Node("mul", (left[i], right[0])))
            for i in range(1, len(left))
        )

    # equations --------------------------------------------------------------------------------------------------------
    def same_equations(self, reference: Node, answer: Node) -> bool:
        """At least one side is an equation that gives no value."""
        wanted, found = as_equation(reference), as_equation(answer)
        if wanted is None or found is None:
            return False
        return same_equation(wanted, found, self.tally)

    # quantities -------------------------------------------------------------------------------------------------------
    def same_quantities(self, reference: Node, answer: Node) -> bool:
        """Values with or without units and percent signs."""
        if not has_units(reference) and not has_units(answer):
            return self.same_percents(reference, answer)
        left, right = quantity(reference), quantity(answer)
        if left is None or right is None:
            return False
        if left.nouns and right.nouns and not left.nouns & right.nouns:
            return False
        if left.dimensions and right.dimensions:
            return self.same_dimensioned(reference, answer, left, right)
        if (left.dimensions and right.nouns and not left.nouns) or (
            right.dimensions and left.nouns and not right.nouns
        ):
            return False
        if left.mixed or right.mixed:
            return False
        if self.same_percents(left.number, right.number):
            return True
        return self.same_angle(reference, answer)

    def same_dimensioned(self, reference: Node, answer: Node, left: Quantity, right: Quantity) -> bool:
        if left.dimensions == right.dimensions:
            return same_value(left.number, right.number, self.tally, right.scale / left.scale)
        if {left.dimensions, right.dimensions} == {(("angle", 1),), (("radian", 1),)}:
            return self.same_angle(reference, answer)
        return False

    def same_angle(self, reference: Node, answer: Node) -> bool:
        """Degrees against radians: `180^\\circ` and `\\pi`."""
        left, right = degrees_as_radians(reference), degrees_as_radians(answer)
        if (left is None) == (right is None):
            return False
        other = quantity(answer if right is None else reference)
        if (
            other is None
            or other.dimensions not in ((), (("radian", 1),))
            or other.nouns
            or exact_rational(other.number)
        ):
            return False
        return same_value(left or other.number, right or other.number, self.tally)

    def same_percents(self, reference: Node, answer: Node) -> bool:
        """A percent sign may be dropped, added or worked out: `50%` is `0.5` and may be `50`; no other times 100."""
        left, right = reference.kind == "pct", answer.kind == "pct"
        if left and right:
            return same_value(reference.args[0], answer.args[0], self.tally)
        if left:
            return same_value(reference.args[0], answer, self.tally) or same_value(
                reference.args[0], answer, self.tally, Fraction(100)
            )
        if right:
            if same_value(reference, answer.args[0], self.tally, Fraction(1, 100)):
                return True
            return self.percent_implied(reference) and same_value(reference, answer.args[0], self.tally)
        return same_value(reference, answer, self.tally)

    def percent_implied(self, reference: Node) -> bool:
        """Whether a bare reference may mean percent: the question speaks of it, or the number is 1 or more."""
        if self.question is not None and ("percent" in self.question.lower() or "%" in self.question):
            return True
        value = exact(reference)
        rational = None if value is None else as_rational(value)
        return rational is not None and abs(rational) >= 1


def _renamed(left: Named, right: Named) -> Named:
    """`f(z) = z` as `f(x) = x`, where the reference calls the same function's argument x."""
    if left.label is None or right.label is None or (left.label.kind, right.label.kind) != ("call", "call"):
        return right
    (name, argument), (other_name, other) = left.label.value, right.label.value
    letters = len(argument) == len(other) == 1 and argument.isalpha() and other.isalpha()
    if name != other_name or argument == other or not letters or argument in symbols(right.value):
        return right
    value = replace(right.value, sym(other), sym(argument))
    rounded = tuple(replace(r, sym(other), sym(argument)) for r in right.rounded)
    return Named(value, left.label, rounded)


def _spread(node: Node, other: Node) -> Node:
    """`2i - j` as the vector `(2, -1)` where the other side is one."""
    if not is_array(other):
        return node
    if other.kind == "matrix" and len(other.args) == len(other.args[0].args) > 1:
        return identities(node, len(other.args))
    return in_units(node, len(other.args)) or node
