"""Train on your own rows: `python -m jobs.train METHOD --data FILE --model M [--out DIR] [--set key=value]...`.

FILE has TRL's columns (text or messages) or our own, and may be the name of a hub's data set. Alone it starts a Ray of
its own; under `ray job submit`, or with RAY_ADDRESS set, it uses that cluster. The same command goes on from the last
checkpoint.
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
from jobs.run import quiet


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("method", help="sft, rft, dpo, step_dpo, kto or another that trains")
    parser.add_argument(
        "--data", "--pairs", required=True, metavar="FILE", help="JSONL, Parquet, or NAME[:SPLIT] on a hub"
    )
    parser.add_argument("--model", required=True, help="weights to start from: a folder, a hub name, or world")
    parser.add_argument("--out", metavar="DIR", help="folder or URI of what comes out (default: runs/METHOD-FILE)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as steps=200 or beta=0.2")
    return parser.parse_args(argv)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    out = args.out or f"runs/{args.method}-{Path(args.data.partition(':')[0]).stem}"
    with quiet(out):
        policy = api.train(args.method, args.data, args.model, out, args.set)
    print(f"model: {policy.adapter or policy.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
