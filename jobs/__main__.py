"""The command `eightfold`, also as `python -m jobs`: every job by one name (jobs/commands.py).

The watcher of app/entry.py stands before anything that takes time to import, as in each job by itself.
"""

from __future__ import annotations

import os
import sys

from app.entry import RESUMABLE, begin

COMPLETING = "_EIGHTFOLD_COMPLETE"  # set by a shell that asks for completions


SAID = {"view": "closed", "submit": "left; a job that was sent goes on in the cluster"}  # when stopped


def main() -> None:
    if COMPLETING not in os.environ:
        begin(SAID.get(next(iter(sys.argv[1:]), ""), RESUMABLE))
        sys.path.append(os.getcwd())  # for graders, plugins and engines of yours: a script has its own folder there
    from jobs.commands import cli

    cli(prog_name="eightfold", complete_var=COMPLETING)


if __name__ == "__main__":
    main()
