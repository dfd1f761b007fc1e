"""Whether a run's shards still hold what was written into them: `python -m jobs.check RUN` (a folder or URI).

Reads every byte and compares with the digests that the shards' writers left. Names what is damaged; then its exit code
is 1.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

from pyarrow import fs as pafs

from app.errors import UserError, one_clear_error
from app.shard_stats import SUM
from app.store import Output, filesystem

SHARD = re.compile(r"([a-z_]+)-\d{5,}\.parquet")


def outputs(root: str) -> Iterator[tuple[Output, list[str]]]:
    """Every output of a run and the kinds of its tables. Raises UserError where there is no such run."""
    fs, folder = filesystem(root)
    if fs.get_file_info(folder).type != pafs.FileType.Directory:
        raise UserError(f"{root}: no such run; give its folder, such as runs/demo")
    kinds: dict[str, set[str]] = {}
    for info in fs.get_file_info(pafs.FileSelector(folder, recursive=True)):
        if info.type == pafs.FileType.File and (found := SHARD.fullmatch(info.base_name)):
            kinds.setdefault(info.path[len(folder) + 1 :].rpartition("/")[0], set()).add(found[1])
    for place in sorted(kinds):
        stage, _, key = place.rpartition("/")
        yield Output(root, stage, key), sorted(kinds[place])


def faults(output: Output, kinds: list[str]) -> list[str]:
    """What is wrong with one output, a line each."""
    folder = f"{output.stage}/{output.key}"
    found = [f"{folder}/{name}: not what was written" for kind in kinds for name in output.damaged(kind)]
    told = output.manifest().get("digest", "") if output.finished else ""
    if not found and told.startswith(SUM) and output.written().digest != told:  # others are of a form no longer made
        found.append(f"{folder}: not the shards that its manifest tells of: some were taken away, added or replaced")
    return found


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="the run's folder or URI, such as runs/demo")
    args = parser.parse_args(argv)
    shards, wrong = 0, 0
    for output, kinds in outputs(args.run):
        shards += sum(len(output.done_shards(kind)) for kind in kinds)
        for line in faults(output, kinds):
            wrong += 1
            print(line)
    if wrong:
        print(f"{wrong} faults. Remove the files and their folder's manifest.json; the run makes them again.")
        return 1
    print(f"{shards} tables hold what was written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
