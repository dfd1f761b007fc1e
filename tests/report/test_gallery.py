"""Which traces are shown, and how a trace is cut into pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.records import Problem, StepValue, Trace, Verdict
from app.report import gallery
from app.report.gallery import LONGEST, held_out, pieces, sampled, view
from app.store import Output

lines = st.lists(st.text(alphabet="12+= #ab", min_size=1, max_size=8).map(lambda t: t + "\n"), max_size=8)


def value(step: int, text: str, q: float | None = 0.5, pit: bool = False, trace: str = "t") -> StepValue:
    return StepValue(trace, "p", step, step, step + 1, text, 1, 2, q, 0.1, 0.9, None, pit)


@given(lines, st.data())
def test_pieces_join_to_the_trace(parts: list[str], data: st.DataObject) -> None:
    """Whatever steps a search looked at, the whole text is shown once, in order."""
    looked = data.draw(st.sets(st.integers(0, len(parts))))
    values = [value(step, parts[step - 1] if step else "") for step in looked]
    shown = pieces("".join(parts), values)
    assert "".join(p.text for p in shown).split() == "".join(parts).split()


@given(lines.filter(lambda parts: len(set(parts)) == len(parts)))
def test_every_valued_step_is_a_piece_of_its_own(parts: list[str]) -> None:
    text = "".join(parts)
    shown = pieces(text, [value(i + 1, part) for i, part in enumerate(parts)])
    assert [p.value.step for p in shown if p.value] == list(range(1, len(parts) + 1))


def test_stretches_between_valued_steps_have_no_value() -> None:
    shown = pieces("a\nb\nc\nd\n", [value(0, ""), value(2, "b\n"), value(4, "d\n", pit=True)])
    assert [(p.text, p.value.step if p.value else None) for p in shown] == [
        ("a\n", None), ("b\n", 2), ("c\n", None), ("d\n", 4)
    ]  # fmt: skip


def test_repeated_lines_are_taken_in_order() -> None:
    shown = pieces("x\nx\nx\n", [value(1, "x\n"), value(2, "x\n"), value(3, "x\n")])
    assert [p.value.step for p in shown if p.value] == [1, 2, 3] and len(shown) == 3


def test_text_that_decoding_changed_is_still_shown() -> None:
    shown = pieces("caf\u00e9\n12\n", [value(1, "caf\ufffd\n"), value(2, "12\n")])
    assert [p.text for p in shown] == ["caf\ufffd\n", "caf\u00e9\n", "12\n"]


def test_a_long_trace_is_cut_and_says_so() -> None:
    trace = Trace("t", "p", 0, 0, "s", [1], [2], "x" * (LONGEST + 50), "length")
    shown = view("sample 0", trace, Verdict("t", "unparsed", None, "no-answer", "none", 0.0), [])
    assert shown.cut == 50 and len(shown.pieces[0].text) == LONGEST and not shown.valued


def test_an_empty_trace_is_shown_empty() -> None:
    trace = Trace("t", "p", 0, 0, "s", [1], [], "", "stop")
    shown = view("sample 0", trace, Verdict("t", "unparsed", None, "no-answer", "none", 0.0), [])
    assert [p.text for p in shown.pieces] == [""] and shown.cut == 0


def write(root: Path, outcomes: dict[str, list[str]], credited: set[str] = frozenset()) -> dict[str, Output]:  # type: ignore[assignment]
    """Problems with the given outcomes of their samples; traces in `credited` have step values."""
    problems = [Problem(p, f"statement of {p}", "1", "train", "made-up") for p in outcomes]
    traces = [
        Trace(f"{p}-{i}", p, i, 0, "sft", [1], [2], "1\n", "stop")
        for p, said in outcomes.items()
        for i in range(len(said))
    ]
    verdicts = [Verdict(f"{p}-{i}", o, "1", "r", "t", 0.0) for p, said in outcomes.items() for i, o in enumerate(said)]
    tables = {
        "problems": Problem.table(problems),
        "sampling/sft": Trace.table(traces),
        "verification/sft": Verdict.table(verdicts),
        "credit/sft": StepValue.table(value(1, "1\n", 0.0, True, trace) for trace in sorted(credited)),
    }
    out = {name: Output(str(root), name, "k") for name in tables}
    for name, table in tables.items():
        out[name].write_shard(0, table)
    return out


def test_sampled_shows_problems_with_right_and_wrong_traces(tmp_path: Path) -> None:
    inputs = write(
        tmp_path,
        {
            "p3": ["correct", "incorrect"],
            "p1": ["incorrect", "correct", "incorrect", "incorrect"],
            "p2": ["correct", "correct"],
            "p4": ["incorrect"],
            "p5": ["correct", "timeout"],
        },
        {"p1-3"},
    )
    cards = sampled(inputs, "problems")
    assert [card.problem.id for card in cards] == ["p1", "p3", "p5"]
    assert [v.trace.id for v in cards[0].traces] == ["p1-1", "p1-3", "p1-0"]  # the credited wrong trace first
    assert cards[0].tags == ["correct", "incorrect", "pit", "sampled"]
    assert cards[2].tags == ["correct", "sampled", "timeout"]


def test_sampled_stops_at_its_limits(tmp_path: Path) -> None:
    outcomes = {f"p{i:03d}": ["correct", "incorrect"] for i in range(gallery.COMPARED + 5)}
    outcomes |= {f"q{i:03d}": ["unparsed"] for i in range(gallery.ODD + 5)}
    cards = sampled(write(tmp_path, outcomes), "problems")
    assert len(cards) == gallery.COMPARED + gallery.ODD
    assert [c.problem.id for c in cards[: gallery.COMPARED]] == sorted(outcomes)[: gallery.COMPARED]


@pytest.mark.parametrize("missing", ["sampling/sft", "verification/sft"])
def test_sampled_without_its_stages(tmp_path: Path, missing: str) -> None:
    inputs = write(tmp_path, {"p1": ["correct", "incorrect"]})
    del inputs[missing]
    assert sampled(inputs, "problems") == []


def evaluations(root: Path, outcomes: dict[str, dict[str, str]]) -> dict[str, Output]:
    """Greedy outcomes by method and problem."""
    ids = sorted({p for said in outcomes.values() for p in said})
    inputs = {"problems": Output(str(root), "problems", "k")}
    inputs["problems"].write_shard(0, Problem.table(Problem(p, p, "1", "test", "made-up") for p in ids))
    for method, said in outcomes.items():
        output = inputs[f"evaluation/{method}"] = Output(str(root), f"evaluation/{method}", "k")
        verdicts = [
            Verdict(f"{method}-{p}-{s}", o if s == 0 else "correct", "1", "r", "t", 0.0)
            for p, o in said.items()
            for s in (0, 1)
        ]
        traces = [Trace(f"{method}-{p}-{s}", p, s, 0, method, [1], [2], "1", "stop") for p in said for s in (0, 1)]
        output.write_shard(0, Verdict.table(verdicts), kind="verdicts")
        output.write_shard(0, Trace.table(traces))
    return inputs


def disagreeing(inputs: dict[str, Output], *methods: str) -> list[gallery.Card]:
    titles = {"base": "base", "sft": "SFT", "rft": "RFT"}
    return held_out(inputs["problems"], {m: inputs[f"evaluation/{m}"] for m in methods}, titles, "sft")


def test_tested_shows_problems_on_which_trained_methods_disagree(tmp_path: Path) -> None:
    inputs = evaluations(
        tmp_path,
        {
            "base": {"a": "incorrect", "b": "correct", "c": "incorrect"},
            "sft": {"a": "correct", "b": "incorrect", "c": "incorrect"},
            "rft": {"a": "correct", "b": "correct", "c": "incorrect"},
        },
    )
    cards = disagreeing(inputs, "base", "sft", "rft")
    assert [card.problem.id for card in cards] == ["b"]  # base alone does not make a disagreement
    assert cards[0].compared == ("won-base", "won-rft")
    assert [(v.label, v.trace.sample, v.verdict.outcome) for v in cards[0].traces] == [
        ("base", 0, "correct"), ("SFT", 0, "incorrect"), ("RFT", 0, "correct")
    ]  # fmt: skip


def test_tested_with_base_alone(tmp_path: Path) -> None:
    inputs = evaluations(tmp_path, {"base": {"a": "correct"}})
    assert disagreeing(inputs, "base") == []
    assert disagreeing(inputs) == []
