"""Give away what a run made: `python -m jobs.export RUN [models/NAME|data/NAME]... --to FOLDER | --to-hub OWNER/NAME`.

Each model and data set gets a card and the manifests behind it. On a hub it is private, but for --public.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.errors import UserError, one_clear_error
from app.release import chosen, lay_out, publish


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="a run's folder or URI, such as runs/demo, or what eightfold train wrote")
    parser.add_argument("things", nargs="*", help="such as models/rft or data/step_dpo; all by default")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to", type=Path, metavar="FOLDER", help="a folder each in here")
    where.add_argument("--to-hub", metavar="OWNER/NAME", help="a repository; of several: OWNER/NAME-rft and so on")
    parser.add_argument("--public", action="store_true", help="on the hub for everyone")
    args = parser.parse_args(argv)
    if not args.to and not args.to_hub:
        raise UserError("say where to: --to FOLDER, or --to-hub OWNER/NAME")
    found = chosen(args.run, args.things)
    if args.to_hub and args.to_hub.count("/") != 1:
        raise UserError(f"--to-hub {args.to_hub}: give OWNER/NAME, as on the hub")
    for thing in found:
        if args.to:
            lay_out(thing, args.to / thing.label)
            print(f"{thing.label}: {args.to / thing.label}")
        else:
            name = args.to_hub if len(found) == 1 else f"{args.to_hub}-{thing.name}"
            print(f"{thing.label}: {publish(thing, name, args.public)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
