"""The verifier: judges the final answer of a trace against a reference answer. See docs/verifier.md.

    judge(reference, text)  -> Verdict: extraction, comparison, a stable reason
    equivalent(reference, answer) -> bool: comparison alone

Nothing a model wrote is ever evaluated as code; every cost is bounded before it is paid.
"""

from app.verification.judge import VERSION, equivalent, fingerprint, judge, judge_batch

__all__ = ["VERSION", "equivalent", "fingerprint", "judge", "judge_batch"]
