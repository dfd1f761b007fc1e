"""Stage report: results.json and report/index.html, from the finished outputs of a run."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from app.report.gallery import held_out, sampled
from app.report.page import Losses, page
from app.report.results import results
from app.stage import StageContext
from app.store import Output


def run(context: StageContext) -> None:
    """Write both files into the stage's own folder, publish them at the run's root, and a row a method as the shard."""
    inputs = context.inputs
    shown = context.stage.options["shown"]
    found = results(context.recipe, inputs, shown)
    asked = {policy: inputs[shown[policy]["evaluation"]] for policy in found["methods"]}
    cards = sampled(inputs, context.stage.options["problems"]) + held_out(
        inputs["problems"], asked, found["titles"], found["baseline"]
    )
    html = page(found, losses(inputs, {policy: shown[policy]["training"] for policy in asked}), cards)
    context.output.write_json("results.json", found)
    with context.output.atomic("index.html") as sink:
        sink.write(html.encode())
    rows = [
        {"method": name, "accuracy": m["accuracy"]["value"], "low": m["accuracy"]["low"], "high": m["accuracy"]["high"]}
        for name, m in found["methods"].items()
    ]
    publish(context.output)
    context.output.write_shard(0, pa.Table.from_pylist(rows, schema=SCHEMA), {"cards": len(cards)})


SCHEMA = pa.schema([("method", pa.string()), ("accuracy", pa.float64()), ("low", pa.float64()), ("high", pa.float64())])


def publish(output: Output) -> None:
    """Copy a report to the run's root as results.json and report/index.html.

    Cheap, and right to call for a reused report too: the root may still show that of another version of the recipe.
    """
    Output(output.root, "", "").write_json("results.json", output.read_json("results.json"))
    fs, folder = output.open()
    with (
        fs.open_input_file(f"{folder}/index.html") as source,
        Output(output.root, "report", "").atomic("index.html") as sink,
    ):
        sink.write(source.read())


def losses(inputs: dict[str, Output], trainings: Mapping[str, str | None]) -> Losses:
    """Training loss by optimiser step of every trained policy; a round that was passed on has none."""
    curves = {}
    for policy, stage in trainings.items():
        if stage in inputs and (table := inputs[stage].read(["step", "loss"])).num_rows:
            curves[policy] = (table["step"].to_pylist(), table["loss"].to_pylist())
    return curves
