"""The same verdicts from inside Ray actors."""

from __future__ import annotations

from app.verification import judge
from tests.verification.traces import TRACES


def test_the_same_from_a_ray_actor(ray_local: str) -> None:
    import pyarrow as pa
    import ray

    from jobs.verify import pool

    table = pa.table({"reference": [t[0] for t in TRACES], "text": [t[1] for t in TRACES]})
    (actor,) = pool(1, "built-in")
    found = ray.get(actor.judge.remote(table, "reference", "text", None, None))
    ray.kill(actor)
    expected = [judge(r, t) for r, t, _ in TRACES]
    assert found["outcome"] == [v.outcome for v in expected]
    assert found["extracted"] == [v.extracted for v in expected]
    assert found["reason"] == [v.reason for v in expected]


def test_the_symbolic_tier_works_inside_an_actor(ray_local: str) -> None:
    import ray

    @ray.remote(num_cpus=1)
    def verdict() -> tuple[str, str]:
        from app.verification import judge

        found = judge("1/3", "\\boxed{\\int_0^1 x^2\\,dx}")
        return found.outcome, found.tier

    assert ray.get(verdict.remote()) == ("correct", "symbolic")
