"""Send a command to a cluster: `python -m jobs.submit [--address URL] COMMAND...`, as `ray job submit` does.

    eightfold submit --address http://127.0.0.1:8265 run gsm8k_deepseek7b --runs s3://BUCKET/runs

The working directory goes along, so recipes and modules of yours are there. Sending the same command again goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from app.errors import UserError, nearest, one_clear_error

ENVIRONMENT = Path(__file__).with_name("runtime_env.yaml")
WORDS = ("run", "estimate", "curve", "study", "verify", "credit", "train", "check", "status", "compare")


def command(args: argparse.Namespace) -> list[str]:
    """The words of `ray job submit`. Raises UserError where the cluster could not do it."""
    word = args.command[0]
    if word not in WORDS:
        raise UserError(f"{word}: nothing to send to a cluster{nearest(word, WORDS)}")
    if not Path("app").is_dir() or not Path("jobs").is_dir():
        raise UserError("submit sends the working directory along: call it in the folder of the checkout")
    address = ["--address", args.address] if args.address else []
    wait = ["--no-wait"] if args.no_wait else []
    sent = ["--working-dir", ".", "--runtime-env", str(ENVIRONMENT.relative_to(Path.cwd()))]
    return ["ray", "job", "submit", *address, *wait, *sent, "--", "python", "-m", "jobs", *args.command]


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.submit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--address", metavar="URL", help="of the cluster's dashboard (default: RAY_ADDRESS)")
    parser.add_argument("--no-wait", action="store_true", help="return at once, and do not follow the log")
    parser.add_argument("--dry-run", action="store_true", help="print what would be called, and stop")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="run RECIPE, or another")
    args = parser.parse_args(argv)
    if not args.command:
        raise UserError("say what to send: eightfold submit run RECIPE --runs s3://BUCKET/runs")
    words = command(args)
    if args.dry_run:
        print(shlex.join(words))
        return 0
    return subprocess.call([str(Path(sys.executable).with_name("ray")), *words[1:]])


if __name__ == "__main__":
    sys.exit(main())
