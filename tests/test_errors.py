"""Messages that point at the nearest valid name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError, nearest

names = st.lists(st.text(alphabet="abcdefgh_", min_size=1, max_size=10), max_size=8)


@pytest.mark.parametrize(
    ("name", "valid", "said"),
    [
        ("sampels", ["samples", "seed"], " (did you mean 'samples'?)"),
        ("demo.yml", ["demo.yaml", "tiny.yaml"], " (did you mean 'demo.yaml'?)"),
        ("zzz", ["b", "a"], " (valid: a, b)"),
        ("zzz", [], " (valid: )"),
        ("seed", ["seed"], " (did you mean 'seed'?)"),
    ],
)
def test_nearest(name: str, valid: list[str], said: str) -> None:
    assert nearest(name, valid) == said


@given(st.text(max_size=10), names)
def test_nearest_only_names_what_is_valid(name: str, valid: list[str]) -> None:
    said = nearest(name, iter(valid))
    if "did you mean" in said:
        assert said.removeprefix(" (did you mean '").removesuffix("'?)") in valid
    else:
        assert said == f" (valid: {', '.join(sorted(valid))})"


def test_user_errors_are_not_caught_as_faults_of_the_program() -> None:
    assert issubclass(UserError, Exception)
    assert not issubclass(UserError, ValueError | OSError | RuntimeError)
