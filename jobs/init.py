"""Write a recipe for your own model and problems: `python -m jobs.init --model M --train FILE --test FILE`.

Looks into the files: which columns hold question and answer, in which form the answers are, whether the training
problems have solutions. The recipe has a comment for each choice; change it as you like.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from app.errors import UserError, one_clear_error
from app.given.rows import Row, rows_of
from app.recipe import NAME, load
from app.verification.extract import boxed

QUESTIONS = ("question", "problem", "prompt", "query", "statement", "input")
ANSWERS = ("answer", "solution", "final_answer", "response", "output", "target")
SOLUTIONS = ("solution", "rationale", "explanation", "response", "output")  # beside a bare answer
LOOKED = 20  # rows that are looked at

TEXT = """\
# eightfold plan {file}     what would run;     eightfold run {file}
name: {name}
model: {{path: {model}}}
rendering: {rendering}

problems:
  source:
    kind: file
    train: {train}
    test: {test}
    question_field: {question}
    answer_field: {answer}
    answer_format: {form}  # {why}{solution}
  validation: {validation}  # held out of the training file

sampling: {{samples: 16, temperature: 1.0, max_tokens: {tokens}}}
credit: {{search: adaptive, rollouts: 8, max_tokens: {tokens}}}  # finds the step at which a wrong trace went wrong

training: {{batch: 64, micro_batch: 4, max_length: {length}, precision: {precision}}}  # of every run
runs:
{runs}
evaluation: {{samples: 4, max_tokens: {tokens}}}

placement:
  sampling: {sampling}
  training: {training}
"""
TAUGHT = """\
  sft: {method: sft, epochs: 2, learning_rate: 1.0e-5}
  rft: {method: rft, samples: sft, epochs: 2, learning_rate: 1.0e-5}
  dpo: {method: dpo, init: sft, epochs: 1, learning_rate: 5.0e-7, beta: 0.1}
  step_dpo: {method: step_dpo, init: sft, epochs: 1, learning_rate: 5.0e-7, beta: 0.1}
"""
UNTAUGHT = """\
  # no solutions in the training file: everything is learned from the model's own traces
  rft: {method: rft, teacher: false, samples: base, epochs: 2, learning_rate: 1.0e-5}
  dpo: {method: dpo, init: base, epochs: 1, learning_rate: 5.0e-7, beta: 0.1}
  step_dpo: {method: step_dpo, init: base, epochs: 1, learning_rate: 5.0e-7, beta: 0.1}
"""


def look(file: str) -> list[Row]:
    """The first rows of a file. Raises UserError where it has none."""
    rows = [row for row, _ in zip(rows_of(file), range(LOOKED), strict=False)]
    if not rows:
        raise UserError(f"{file}: no rows in it")
    return rows


def column(rows: Sequence[Row], names: Sequence[str], what: str) -> str:
    """The first of some names that every row has. Raises UserError, with those there are."""
    for name in names:
        if _all_have(rows, name):
            return name
    there = ", ".join(rows[0].values)
    raise UserError(f"{rows[0].place}: no column for the {what} among {there}; rename one to {names[0]!r}")


def _all_have(rows: Sequence[Row], name: str) -> bool:
    return all(row.values.get(name) not in (None, "") for row in rows)


def form_of(rows: Sequence[Row], answer: str) -> tuple[str, str, bool]:
    """(answer_format, why, whether the answers are solutions)."""
    texts = [str(row.values[answer]) for row in rows]
    if all("####" in text for text in texts):
        return "gsm8k", "solutions that end with '#### ANSWER'", True
    if all(boxed(text) for text in texts):
        return "boxed", "solutions with \\boxed{ANSWER}", True
    return "plain", "the bare answer", False


def recipe_text(args: argparse.Namespace) -> str:
    """The recipe. Raises UserError where the files do not tell enough."""
    rows = look(args.train)
    question = column(rows, QUESTIONS, "question")
    answer = column(rows, [name for name in ANSWERS if name != question], "answer")
    for name in (question, answer):
        column(look(args.test), [name], name)
    form, why, taught = form_of(rows, answer)
    apart = None if taught else next((name for name in SOLUTIONS if name != answer and _all_have(rows, name)), None)
    chat = args.model != "world" and args.chat
    ask = "{statement}\n" if not chat else "{statement}\nPut the final answer after ####, on a line of its own."
    body: dict[str, Any] = {
        "name": args.name,
        "file": args.out or f"{args.name}.yaml",
        "model": args.model,
        "rendering": _flow({"template": "chat" if chat else "plain", "prompt": ask}),
        "train": args.train,
        "test": args.test,
        "question": question,
        "answer": answer,
        "form": form,
        "why": why,
        "solution": f"\n    solution_field: {apart}" if apart else "",
        "validation": 0 if len(rows) < LOOKED else 100,
        "tokens": 512,
        "length": 1024,
        "precision": "bf16" if args.gpus else "fp32",
        "runs": TAUGHT if taught or apart else UNTAUGHT,
        "sampling": _flow({"actors": max(1, args.gpus), "gpus": 1} if args.gpus else {"kv_cache_gib": 1}),
        "training": _flow({"workers": max(1, args.gpus), "gpus": 1, "zero_stage": 2} if args.gpus else {"workers": 1}),
    }
    return TEXT.format(**body)


def _flow(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.init", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="a folder, a hub name, or world")
    parser.add_argument(
        "--train", required=True, metavar="FILE", help="JSONL, JSON, CSV or Parquet: a question and an answer a row"
    )
    parser.add_argument("--test", required=True, metavar="FILE", help="held-out problems of the same form")
    parser.add_argument("--name", default="mine", help="of the run (default: mine)")
    parser.add_argument("--out", metavar="FILE", help="recipe to write (default: NAME.yaml)")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs to use (default: 0, CPUs alone)")
    parser.add_argument("--chat", action="store_true", help="the model is asked through its chat template")
    args = parser.parse_args(argv)
    out = Path(args.out or f"{args.name}.yaml")
    if not re.match(NAME, args.name):
        raise UserError(f"--name {args.name}: letters, digits, . _ and - alone")
    if out.exists():
        raise UserError(f"{out}: is there already; give another --out")
    out.write_text(recipe_text(args))
    load(str(out))
    print(f"{out} written. Look at it, then:\n  eightfold plan {out}\n  eightfold run {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
