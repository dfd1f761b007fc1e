"""Step values, first pits and pairs of your own traces: `python -m jobs.credit --traces t.jsonl --model M [--out DIR]`.

Alone it starts a Ray of its own; under `ray job submit`, or with RAY_ADDRESS set, it uses that cluster. The same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.entry import begin

if __name__ == "__main__":
    begin()

from app import api
from app.errors import one_clear_error
from app.given.traces import Columns
from jobs.run import quiet


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.credit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--traces", required=True, metavar="FILE", help="JSONL or Parquet: prompt, completion, answer")
    parser.add_argument("--model", required=True, help="the policy that rolls out: a folder, a hub name, or world")
    parser.add_argument("--out", metavar="DIR", help="folder or URI of what comes out (default: runs/credit-FILE)")
    parser.add_argument("--prompt-column", default="prompt")
    parser.add_argument("--completion-column", default="completion")
    parser.add_argument("--answer-column", help="reference answers (default: answer or reference, if there)")
    parser.add_argument(
        "--verdict-column", help="outcomes or booleans (default: outcome, verdict or correct, if there)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as credit.rollouts=16")
    return parser.parse_args(argv)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    columns = Columns(args.prompt_column, args.completion_column, args.answer_column, args.verdict_column)
    out = args.out or f"runs/credit-{Path(args.traces).stem}"
    with quiet(out):
        found = api.credit(args.traces, args.model, out, args.set, columns)
    print(", ".join(f"{count:,} {name}" for name, count in found.counts.items()))
    for address in found.files.values():
        print(f"  {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
