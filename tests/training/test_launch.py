"""Training stages through Ray Train and DeepSpeed, on real workers."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from app import capacity
from app.capacity import Node
from app.errors import UserError
from app.policy import check_folder, trained_policy
from app.stage import StageContext
from app.training import launch
from app.training.metrics import read
from tests.training.conftest import example, rows_of

MakeContext = Callable[..., StageContext]


def weights(context: StageContext) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(context.output.local("model") / "model.safetensors")


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[k].float(), b[k].float(), atol=atol) for k in a)


def test_a_stage_trains_and_exports(ray_local: str, make_context: MakeContext, capsys: Any, tmp_path: Path) -> None:
    """Per-step DPO from end to end, called from a thread as the pipeline does, wherever the process stands."""
    rows = rows_of("step_dpo", 16)
    rows.append(dataclasses.replace(rows[0], id="same", rejected_token_ids=rows[0].chosen_token_ids))
    context = make_context("step_dpo", rows=rows, rpo_alpha=0.1, checkpoint_steps=1)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            launch.run(context)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert failures == []
    assert not context.output.local("checkpoints").exists()  # their optimiser's state is of no use any more
    table = context.output.read()
    assert table["step"].to_pylist() == [1, 2]
    assert {
        "loss",
        "lr",
        "grad_norm",
        "tokens",
        "seconds",
        "useful_tokens_per_second",
        "gain_chosen",
        "length_rejected",
        "margin",
        "accuracy",
        "logp_chosen",
        "logp_rejected",
    } <= set(table.column_names)
    assert table["preference"][0].as_py() == pytest.approx(0.693147, abs=1e-4)
    counts = context.output.counts()
    assert (counts["examples"], counts["steps"], counts["skipped"], counts["skipped_equal_branches"]) == (16, 2, 1, 1)
    assert counts["tokens"] == sum(len(r.chosen_token_ids) + len(r.rejected_token_ids) for r in rows[:-1])
    check_folder(trained_policy(context.output).path)
    assert not context.output.local("ray").exists()
    told = capsys.readouterr().err
    assert "rows left out: 1 equal_branches" in told
    assert "training/step_dpo: 2/2 steps" in told
    before = context.output.written()
    launch.run(context)  # done is done
    assert context.output.written() == before


@pytest.mark.parametrize("kept", [False, True])
def test_checkpoints_go_with_the_end_of_a_stage_unless_they_are_asked_for(
    make_context: MakeContext, kept: bool
) -> None:
    """Also where a kill came between the last shard and their removal."""
    context = make_context("sft", placement={"keep_checkpoints": kept})
    context.output.local("checkpoints/step-00000001").mkdir(parents=True)
    context.output.write_shard(0, pa.table({"step": [1]}))
    launch.run(context)
    assert context.output.local("checkpoints").exists() == kept


def test_bad_data_is_refused_before_any_worker_starts(make_context: MakeContext, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the data set is empty"):
        launch.run(make_context("sft", rows=[], root=tmp_path / "a"))
    with pytest.raises(UserError, match=r"none of the 3 rows \(3 too_long\)"):
        launch.run(make_context("sft", rows=rows_of("sft", 3), root=tmp_path / "b", max_length=8))
    foreign = [example(0, random.Random(0), completion_token_ids=[70, 1])]
    with pytest.raises(UserError, match=r"row e0 \(branch 0\) has token id 70, but the model .* knows only 64"):
        launch.run(make_context("sft", rows=foreign, root=tmp_path / "c"))


def test_a_tokenizer_smaller_than_its_data_is_refused(
    make_context: MakeContext, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    body = json.loads((folder / "tokenizer.json").read_text())
    body["model"]["vocab"] = {word: i for word, i in body["model"]["vocab"].items() if i < 30}
    (folder / "tokenizer.json").write_text(json.dumps(body))
    context = make_context("sft")
    start = context.recipe.model.model_copy(update={"path": str(folder)})
    stage = replace(context.stage, options=context.stage.options | {"start": start})
    smaller = StageContext(stage, context.recipe, context.inputs, context.output, context.progress)
    with pytest.raises(UserError, match=r"the tokenizer of .* knows only 30 tokens"):
        launch.run(smaller)


def test_a_users_mistake_on_a_worker_is_told_once(ray_local: str, make_context: MakeContext) -> None:
    """Weights that are not numbers: one clear error, not `max_failures` restarts."""
    context = make_context(
        "sft", learning_rate=1e30, epochs=3, warmup=0, max_grad_norm=1e30, placement={"max_failures": 3}
    )
    with pytest.raises(
        UserError, match=r"training/sft: the (loss|gradient norm) is .* at step \d+; try a smaller learning_rate"
    ):
        launch.run(context)
    assert not context.output.done_shards()
    assert not context.output.local("model").exists()


def test_workers_go_where_labels_say_and_what_is_missing_is_told(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Fake:
        def __init__(self, *_arguments: Any, **options: Any) -> None:
            asked.update(options)

        def fit(self) -> None:
            raise RuntimeError("as far as this test goes")

    monkeypatch.setattr(launch, "_trainer_class", lambda: Fake)
    trainers = Node(4, 0, {"role": "trainer"})
    monkeypatch.setattr(capacity, "nodes", lambda: [Node(64, 8, {"role": "sampler"}), trainers])
    with pytest.raises(RuntimeError, match="as far as this test goes"):
        launch.run(make_context("sft", placement={"workers": 4, "labels": {"role": "trainer"}}))
    assert asked["scaling_config"].label_selector == {"role": "trainer"}
    with pytest.raises(UserError, match=r"room for 4 of 5 x \(1 CPU, role=trainer\).*change placement.training"):
        launch.run(make_context("sft", placement={"workers": 5, "labels": {"role": "trainer"}}))


def worker_pids() -> list[int]:
    """Ray Train workers below this process, so that no one else's are touched."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"RayTrainWorker" in command and os.getpid() in ancestors(int(entry.name)):
                pids.append(int(entry.name))
    return pids


def ancestors(pid: int) -> list[int]:
    """Parents of a process, up to the first."""
    found: list[int] = []
    while pid > 1:
        try:
            pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return found
        found.append(pid)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_two_workers_equal_one(ray_local: str, make_context: MakeContext, tmp_path: Path, zero: int) -> None:
    how: dict[str, Any] = {"epochs": 2, "rpo_alpha": 0.5}
    one = make_context("dpo", root=tmp_path / "one", **how, placement={"workers": 1})
    two = make_context("dpo", root=tmp_path / "two", **how, placement={"workers": 2, "zero_stage": zero})
    launch.run(one)
    launch.run(two)
    for column in ("loss", "margin", "grad_norm", "tokens"):
        assert two.output.read()[column].to_pylist() == pytest.approx(one.output.read()[column].to_pylist(), abs=1e-4)
    assert close(weights(one), weights(two), 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [2, 3])
def test_a_run_goes_on_with_fewer_workers(ray_local: str, make_context: MakeContext, tmp_path: Path, zero: int) -> None:
    """Started on two workers and stopped, it ends on one as if it had run on one all along."""
    how: dict[str, Any] = {"epochs": 3, "checkpoint_steps": 4, "rows": rows_of("sft", 24)}
    whole = make_context("sft", root=tmp_path / "whole", placement={"zero_stage": zero}, **how)
    launch.run(whole)
    two = make_context("sft", root=tmp_path / "cut", placement={"workers": 2, "zero_stage": zero}, **how)
    launch.run(two)
    (two.output.local() / "part-00000.parquet").unlink()  # as if it had stopped before its end, after step 8 of 9
    shutil.rmtree(two.output.local("model"))
    one = make_context("sft", root=tmp_path / "cut", placement={"workers": 1, "zero_stage": zero}, **how)
    launch.run(one)
    assert one.output.read()["loss"].to_pylist() == pytest.approx(whole.output.read()["loss"].to_pylist(), abs=1e-4)
    assert close(weights(one), weights(whole), 5e-4)


@pytest.mark.slow
def test_a_killed_worker_comes_back_to_the_same_result(
    ray_local: str, make_context: MakeContext, tmp_path: Path
) -> None:
    """kill -9 of one of two workers in mid-run: Ray Train starts them again from the last complete checkpoint."""
    how: dict[str, Any] = {"steps": 120, "checkpoint_steps": 10, "rows": rows_of("sft", 48)}
    whole = make_context("sft", root=tmp_path / "whole", placement={"workers": 2}, **how)
    launch.run(whole)
    cut = make_context("sft", root=tmp_path / "cut", placement={"workers": 2, "max_failures": 2}, **how)
    killed: list[int] = []

    def kill() -> None:
        path = cut.output.local("metrics.jsonl")
        while len(read(path)) < 25:
            time.sleep(0.05)
        pids = worker_pids()
        os.kill(pids[-1], signal.SIGKILL)
        killed.extend(pids)

    thread = threading.Thread(target=kill)
    thread.start()
    launch.run(cut)
    thread.join()
    assert killed
    counts = cut.output.counts()
    assert counts["restarts"] == 1 and counts["redone_steps"] > 0 and counts["lost_seconds"] > 0
    assert "restarts" not in whole.output.counts()
    assert cut.output.read()["step"].to_pylist() == list(range(1, 121))
    assert cut.output.read()["loss"].to_pylist() == pytest.approx(whole.output.read()["loss"].to_pylist(), abs=1e-6)
    assert close(weights(cut), weights(whole), 1e-6)
