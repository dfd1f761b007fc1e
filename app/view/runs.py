"""A run's folder as the viewer reads it: which samples there are, by policy, and what was made of them."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs as pafs

from app.errors import UserError
from app.plan import siblings
from app.records import PreferencePair
from app.store import Output, filesystem
from app.view.traces import Samples


class RunView:
    """One run, or the folder of `eightfold credit`. Raises UserError where there are no samples."""

    def __init__(self, root: str) -> None:
        self.root = root
        fs, folder = filesystem(root)
        if fs.get_file_info(folder).type != pafs.FileType.Directory:
            raise UserError(f"{root}: no such run; give its folder, such as runs/demo")
        self.samples: dict[str, Samples] = {}
        for policy in self._names("sampling"):
            sampling = self._newest(f"sampling/{policy}")
            if sampling and (problems := self._source(sampling)):
                outputs = {"sampling": sampling}
                for kind in ("verification", "credit"):
                    if found := self._newest(f"{kind}/{policy}", sampling=sampling.key):
                        outputs[kind] = found
                self.samples[policy] = Samples(outputs, problems, self._pair_sets(sampling))
        self.held_out: list[str] = []  # names of the samples that are answers to held-out problems
        for policy in self._names("evaluation"):
            asked = self._newest(f"evaluation/{policy}")
            if asked and (problems := self._source(asked)):
                name = f"held-out, {policy}"
                self.samples[name] = Samples({"sampling": asked, "verification": asked}, problems, {}, "verdicts")
                self.held_out.append(name)
        if not self.samples:
            raise UserError(f"{root}: no sampled traces there yet; eightfold status {root} tells how far it is")

    @property
    def settled(self) -> bool:
        """Whether the run has come to its report, after which its files stay."""
        fs, folder = filesystem(self.root)
        return bool(fs.get_file_info(posixpath.join(folder, "results.json")).type == pafs.FileType.File)

    def about(self) -> dict[str, Any]:
        """The run and its samples, with the values that filters can take."""
        told = {
            name: {
                "traces": one.index.num_rows,
                "valued": _count(one, "valued"),
                "pits": _count(one, "pit"),
                "outcomes": _words(one, "outcome"),
                "reasons": _words(one, "reason"),
            }
            for name, one in self.samples.items()
        }
        return {"run": self.name, "samples": told, "held_out": self.held_out}

    @property
    def name(self) -> str:
        return posixpath.basename(self.root.rstrip("/"))

    def answers(self, problem: str, but: str = "") -> list[dict[str, Any]]:
        """Rows of the index of greedy answers to a held-out problem, of all policies but one."""
        found = []
        for name in self.held_out:
            index = self.samples[name].index
            mine = pc.equal(index["problem"].cast(pa.string()), problem)
            rows = index.filter(pc.and_(mine, pc.equal(index["sample"], 0))).to_pylist() if name != but else []
            found += [{"samples": name} | row for row in rows]
        return found

    def trainings(self) -> dict[str, Output]:
        """The newest training of each run, those under way included."""
        found = {}
        for name in self._names("training"):
            outputs = siblings(Output(self.root, f"training/{name}", "-"))
            if outputs:
                done = [output for output in outputs if output.finished]
                found[name] = max(done, key=lambda output: str(output.manifest()["finished"])) if done else outputs[-1]
        return found

    def _names(self, kind: str) -> list[str]:
        fs, folder = Output(self.root, kind, "").open()
        infos = fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def _newest(self, stage: str, **inputs: str) -> Output | None:
        """The newest finished output of a stage that read these inputs, or, where none is finished, one begun."""
        outputs = [output for output in siblings(Output(self.root, stage, "-")) if output.done_shards()]
        done = [(output.manifest(), output) for output in outputs if output.finished]
        fits = [pair for pair in done if inputs.items() <= pair[0]["inputs"].items()]
        if fits:
            return max(fits, key=lambda pair: pair[0]["finished"])[1]
        begun = [output for output in outputs if not output.finished]
        return begun[-1] if begun else None

    def _source(self, sampling: Output) -> Output | None:
        """The problems that samples are of: what their manifest names, or the newest there are."""
        if sampling.finished:
            told = sampling.manifest()
            return Output(self.root, told["folders"]["problems"], told["inputs"]["problems"])
        return self._newest("synthesis") or self._newest("problems")

    def _pair_sets(self, sampling: Output) -> dict[str, Output]:
        """Data sets of pairs that were made of these samples."""
        found = {}
        for name in self._names("datasets"):
            output = self._newest(f"datasets/{name}", sampling=sampling.key)
            if output and output.finished and set(PreferencePair.schema.names) <= set(output.columns()):
                found[name] = output
        return found


def _count(samples: Samples, column: str) -> int:
    return int(samples.index[column].to_numpy().sum()) if samples.index.num_rows else 0


def _words(samples: Samples, column: str) -> list[str]:
    return sorted(word for word in samples.index[column].unique().to_pylist() if word)


def report_of(root: str) -> bytes | None:
    """The run's report, None where there is none yet or it is in object storage."""
    file = Path(root, "report", "index.html")
    return file.read_bytes() if "://" not in root and file.is_file() else None
