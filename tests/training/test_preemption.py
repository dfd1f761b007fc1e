"""When a notice that a node goes away makes an extra checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from app.training import preemption
from app.training.preemption import Notice, agree


def notice(deadlines: list[float | None], now: list[float]) -> Notice:
    said: Iterator[float | None] = iter(deadlines)
    clock = iter(now)
    return Notice(lambda: next(said), torch.device("cpu"), lambda: next(clock))


def test_no_notice_no_checkpoint(one_rank: None) -> None:
    assert not Notice(None, torch.device("cpu")).due(1.0)
    quiet = notice([None] * 3, [])
    assert [quiet.due(1.0) for _ in range(3)] == [False] * 3


def test_one_at_once_and_one_before_the_deadline(one_rank: None) -> None:
    """Steps of a second, a save of three: the last save begins when less than 3 + 2 + 2 seconds are left."""
    given = notice([None] + [130.0] * 29, [101.0 + i for i in range(28)])
    made = []
    for step in range(30):
        if given.due(1.0):
            made.append(step)
            given.save_seconds = 3.0
    assert made == [1, 25]  # asked at 101, 102, ...: 124 is the first time with less than 7 seconds left


def test_a_second_notice_is_a_new_one(one_rank: None) -> None:
    given = notice([130.0, 130.0, 90.0, 90.0], [0.0, 0.0])
    assert [given.due(0.1) for _ in range(4)] == [True, False, True, False]


def test_no_deadline_is_one_checkpoint(one_rank: None) -> None:
    given = notice([math.inf] * 5, [1e9] * 4)
    assert [given.due(1.0) for _ in range(5)] == [True] + [False] * 4


def test_only_rank_0_asks(one_rank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asks may be storage, which every rank would ask before every step."""
    asked: list[int] = []
    assert agree(lambda: not asked.append(0), torch.device("cpu")) and asked == [0]  # type: ignore[func-returns-value]
    monkeypatch.setattr(preemption.dist, "get_rank", lambda: 1)
    agree(lambda: not asked.append(1), torch.device("cpu"))  # type: ignore[func-returns-value]
    assert asked == [0]
