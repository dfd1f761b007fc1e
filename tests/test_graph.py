"""A recipe as stages: inputs come first, and every kind of stage has a revision."""

from __future__ import annotations

from app.graph import REVISIONS, build
from app.recipe import load
from jobs.run import RECIPES


def test_inputs_come_before_the_stages_that_read_them() -> None:
    seen: set[str] = set()
    for stage in build(load(str(RECIPES / "demo.yaml"))):
        assert set(stage.inputs) <= seen, stage.name
        seen.add(stage.name)


def test_every_kind_of_stage_has_a_revision() -> None:
    assert {stage.name.split("/")[0] for stage in build(load(str(RECIPES / "demo.yaml")))} <= set(REVISIONS)
