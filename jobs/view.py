"""Look through the traces of runs: `python -m jobs.view RUN... [--port N]`, a page for this machine alone.

Every trace with its verdict, its steps with their values and the first pit, and the pairs made of it. RUN is a run's
folder or URI, or the folder that `eightfold credit` wrote. Works while a run goes on: reload to see what came.
"""

from __future__ import annotations

import argparse
import sys

from app.entry import begin

if __name__ == "__main__":
    begin("closed")

from app.errors import one_clear_error


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.view", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", nargs="+", help="the run's folder or URI, such as runs/demo")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="of this machine; 0: a free one (default)")
    args = parser.parse_args(argv)
    from app.view.server import serve

    serve(args.run, args.port, lambda address: print(f"open {address}\nCtrl+C closes it", flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
