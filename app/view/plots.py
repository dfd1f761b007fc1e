"""Figures of a run as numbers: where values fall, where pits lie, how hard problems are, how training went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.remote_folder import file_of
from app.store import Output
from app.view.traces import Samples

TENTHS = 10  # parts of a trace, by its steps
EDGES = np.linspace(-1, 1, 21)  # of advantages
MOST = 400  # points of a curve
CURVES = ("loss", "preference", "margin", "accuracy", "grad_norm")  # what is drawn of metrics.jsonl


def credit_figures(credit: Output) -> dict[str, Any]:
    """Values and pits by where in a trace they are, and how advantages are spread, of right and wrong traces apart.

    A trace's steps are parted into tenths: step 3 of 6 ends the fifth. Means of Q are over steps that have a value.
    """
    sums, counts = np.zeros((2, TENTHS)), np.zeros((2, TENTHS), dtype=int)
    pits, spread = np.zeros(TENTHS, dtype=int), np.zeros((2, len(EDGES) - 1), dtype=int)
    for table in credit.tables(["trace_id", "step", "q", "advantage", "first_pit", "right"]):
        trace = table["trace_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        step, right = table["step"].to_numpy(), table["right"].to_numpy().astype(int)
        q, advantage = (table[name].to_numpy().astype(float) for name in ("q", "advantage"))
        steps = np.zeros(trace.max(initial=-1) + 1, dtype=int)
        np.maximum.at(steps, trace, step)
        tenth = np.where(step > 0, (step * TENTHS - 1) // np.maximum(steps[trace], 1), 0).clip(0, TENTHS - 1)
        valued = (step > 0) & ~np.isnan(q)
        np.add.at(sums, (right[valued], tenth[valued]), q[valued])
        np.add.at(counts, (right[valued], tenth[valued]), 1)
        np.add.at(pits, tenth[table["first_pit"].to_numpy()], 1)
        for side in (0, 1):
            spread[side] += np.histogram(advantage[(right == side) & ~np.isnan(advantage)], EDGES)[0]
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    named = {"wrong": 0, "right": 1}
    return {
        "values": {
            name: [None if np.isnan(mean) else float(mean) for mean in means[side]] for name, side in named.items()
        },
        "valued": {name: counts[side].tolist() for name, side in named.items()},
        "pits": pits.tolist(),
        "advantages": {name: spread[side].tolist() for name, side in named.items()},
    }


def difficulty(samples: Samples) -> list[int]:
    """Problems by the share of their judged traces that are right, those that are all right in the last part.

    Tenths; of fewer traces a problem, as many parts as there may be shares: five of four traces.
    """
    shares, judged = (samples.shares[name].to_numpy() for name in ("share", "judged"))
    parts = min(int(judged.max(initial=0)) + 1, TENTHS)
    return [int(count) for count in np.histogram(shares, parts, (0, 1))[0]]


def figures(samples: Samples) -> dict[str, Any]:
    """All figures of one policy's samples; those of credit where there is any."""
    credit = samples.credit
    return {"problems": difficulty(samples)} | (credit_figures(credit) if credit and credit.done_shards() else {})


def curves(trainings: Mapping[str, Output]) -> dict[str, dict[str, list[float]]]:
    """Metrics by step of each training, thinned to what a screen shows: `step` and those of CURVES that it has."""
    found = {}
    for name, output in trainings.items():
        file = file_of(output, "metrics.jsonl")
        lines = file.read_text().splitlines() if file.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be half written
        rows = rows[:: max(1, -(-len(rows) // MOST))]
        if rows:
            there = [key for key in CURVES if all(key in row for row in rows)]
            found[name] = {key: [row[key] for row in rows] for key in ("step", *there)}
    return found
