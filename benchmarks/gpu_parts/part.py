"""A part's process: its cases one after the other, and a line in a file for each that begins or ends.

    python -m benchmarks.gpu_parts.part benchmarks.gpu_parts.equality results.jsonl 0 '{"device": "cuda", ...}'

A failure ends the process, so that the next case finds the device as it should be; process.py starts another there.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.case import FAILED, SKIPPED, Case, Setup, Skipped, absent
from benchmarks.table import Row


def told(error: BaseException) -> str:
    """An error in one line: its first two, of which the second often says what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"


def results(case: Case) -> tuple[list[Row], bool]:
    """A case's rows, and whether it went well."""
    try:
        return case.run(), True
    except Skipped as why:
        return [absent(case.name, f"{SKIPPED}{why}")], True
    except Exception as error:
        traceback.print_exc()
        return [absent(case.name, f"{FAILED}{told(error)}")], False


def main(module: str, file: Path, start: int, setup: Setup) -> int:
    """Run the cases of a part from number `start` on; returns the exit status."""
    with file.open("a", encoding="utf-8", buffering=1) as lines:

        def say(**what: Any) -> None:
            lines.write(json.dumps(what) + "\n")

        cases: list[Case] = import_module(module).cases(setup)
        say(cases=[case.name for case in cases])
        for number, case in enumerate(cases[start:], start):
            say(begin=number, seconds=case.seconds)
            rows, well = results(case)
            say(end=number, rows=[asdict(row) for row in rows], failed=not well)
            if not well:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Setup(**json.loads(sys.argv[4]))))
