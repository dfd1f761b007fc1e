"""How busy the engines were while they sampled, thinned out for results.json and the page's figure."""

from __future__ import annotations

from itertools import groupby
from statistics import fmean
from typing import Any

from app.sampling.meter import WINDOW
from app.sampling.utilisation import Utilisation, utilisation
from app.store import Output

POINTS = 240  # of the figure, about


def engine_use(sampling: Output) -> list[dict[str, Any]]:
    """Points in time of the stage: `seconds` since its first work, engines, busy share, requests at once, tokens/s.

    About POINTS of them at most, each the mean over the windows with work in a stretch of time; a stretch without any
    (a pause between sessions) has none. Empty for a stage that kept no record.
    """
    windows = utilisation(sampling)
    if not windows:
        return []
    begin = windows[0].begin
    stretch = WINDOW * (1 + int((windows[-1].begin - begin) / WINDOW) // POINTS)
    return [
        _point(number * stretch, list(group))
        for number, group in groupby(windows, key=lambda window: int((window.begin - begin) / stretch))
    ]


def _point(seconds: float, windows: list[Utilisation]) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "engines": max(window.engines for window in windows),
        "busy": round(fmean(window.busy for window in windows), 4),
        "requests": round(fmean(window.requests for window in windows), 2),
        "tokens_per_second": round(fmean(window.tokens_per_second for window in windows), 1),
    }
