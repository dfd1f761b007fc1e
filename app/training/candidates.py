"""Checkpoints that are evaluated on held-out problems while training goes on, and the one that becomes the model.

    candidates/step-*/     model folders that wait for their evaluation, and the best so far
    evaluations.jsonl      one row an evaluated candidate, in the order of steps
    stop                   its existence tells the workers to end

Which candidate wins follows from the rows alone, so neither the speed of the evaluations nor a restart changes it: a
slow evaluation lets training run further than needed, and what it did beyond is dropped. In object storage the same
names hold the same things.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.remote_folder import Folder, RemoteFile, TextFile, write_whole
from app.training.metrics import read

Row = dict[str, Any]


def choose(rows: Sequence[Row], patience: int | None, best: bool = False) -> tuple[Row | None, int | None]:
    """The row of the candidate to keep, and the step at which training is over (None: it goes on).

    With `patience`, or where the best is asked for, the most accurate (the earliest of equals) wins. With `patience`
    training is over after so many evaluations in a row that brought nothing better. Without both, the last one wins.
    """
    if patience is None and not best:
        return (rows[-1] if rows else None), None
    kept: Row | None = None
    waited = 0
    for row in rows:
        if kept is None or row["accuracy"] > kept["accuracy"]:
            kept, waited = row, 0
        else:
            waited += 1
        if patience is not None and waited >= patience:
            return kept, int(row["step"])
    return kept, None


class Candidates:
    """The candidates of one run: workers add folders, the driver adds evaluations."""

    def __init__(self, root: Path, patience: int | None, best: bool = False) -> None:
        self.folder = root / "candidates"
        self.file: TextFile = root / "evaluations.jsonl"
        self.stop: TextFile = root / "stop"
        self.patience, self.best = patience, best

    def path(self, step: int) -> Path:
        """Model folder of a candidate; it exists only when it is whole."""
        return self.folder / f"step-{step:08d}"

    def address(self, step: int) -> str:
        """The same for an evaluator, on whatever node."""
        return str(self.path(step))

    def there(self) -> list[int]:
        """Steps whose model folders exist, ascending."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def rows(self) -> list[Row]:
        """Evaluations up to the one that ended training."""
        rows = read(self.file)
        _, over = choose(rows, self.patience, self.best)
        return [row for row in rows if over is None or row["step"] <= over]

    def chosen(self) -> tuple[Row | None, int | None]:
        """See `choose`."""
        return choose(self.rows(), self.patience, self.best)

    def wanted(self, step: int) -> bool:
        """Whether the worker still has to write the candidate of this step."""
        return step not in self.there() and all(row["step"] != step for row in self.rows())

    def next(self) -> int | None:
        """The step to evaluate next."""
        evaluated = {row["step"] for row in self.rows()}
        return next((step for step in self.there() if step not in evaluated), None)

    def add(self, row: Row) -> None:
        """Note an evaluation; candidates that can no longer win are removed, and training is told where it is over."""
        write_whole(self.file, "".join(json.dumps(each) + "\n" for each in [*self.rows(), row]))
        best, over = self.chosen()
        assert best is not None
        for old in self.rows():
            if old["step"] != best["step"]:
                self._remove(old["step"])
        if over is not None:
            self.stop.touch()

    def promote(self, model: Path | str) -> Row:
        """Make the chosen candidate the run's model, at this path or URI; the others go."""
        best, _ = self.chosen()
        assert best is not None, "a run offers its last step at least"
        if best["step"] and best["step"] in self.there():  # step 0 is the start; not there: a stopped run was here
            self._move(best["step"], str(model))
        self._clear()
        self.stop.unlink(missing_ok=True)
        return best

    def _remove(self, step: int) -> None:
        shutil.rmtree(self.path(step), ignore_errors=True)

    def _move(self, step: int, model: str) -> None:
        shutil.rmtree(model, ignore_errors=True)
        os.replace(self.path(step), model)

    def _clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class StoredCandidates(Candidates):
    """The same in object storage below `uri`; `root` is where a worker makes a folder before it is uploaded."""

    def __init__(self, uri: str, root: Path, patience: int | None, best: bool = False) -> None:
        super().__init__(root, patience, best)
        self.stored = Folder(posixpath.join(uri, "candidates"))
        self.file, self.stop = (RemoteFile(posixpath.join(uri, name)) for name in ("evaluations.jsonl", "stop"))

    def address(self, step: int) -> str:
        return posixpath.join(self.stored.uri, self.path(step).name)

    def there(self) -> list[int]:
        steps = [int(name.removeprefix("step-")) for name in self.stored.below() if name.startswith("step-")]
        return [step for step in steps if Folder(self.address(step)).listing() is not None]

    def _remove(self, step: int) -> None:
        Folder(self.address(step)).remove()

    def _move(self, step: int, model: str) -> None:
        Folder(self.address(step)).copy_to(Folder(model))

    def _clear(self) -> None:
        for step in self.there():  # a kill in the middle must leave none that counts without its weights
            self._remove(step)
        self.stored.remove()
