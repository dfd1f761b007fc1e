"""Whatever the reference: words that deny, bound or change a value never pass, the plain wordings do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.verification import judge

FRAMES = [
    "The answer is {}.",
    "Final answer: {}",
    "**Answer:** {}",
    "<answer>{}</answer>",
    "\\boxed{{\\text{{{}}}}}",
    "$\\text{{{}}}$",
    "Therefore, the total is {}.",
    "**{}**",
    "So we find {}.",
]
DENIED = [
    "not {n}",
    "never {n}",
    "no longer {n}",
    "certainly not {n}",
    "anything but {n}",
    "{n} is wrong",
    "{n} (wrong)",
]
DENIED += ["{n} (not the answer)", "{n}? No", "other than {n}", "{m}, not {n}", "cannot be {n}", "isn't {n}"]
BOUNDED = ["at least {n}", "at most {n}", "more than {n}", "less than {n}", "close to {n}", "{n} or more", "{n} or {m}"]
BOUNDED += ["between {n} and {m}", "a multiple of {n}", "divisible by {n}", "nearly {n}", "under {n}"]
CHANGED = [
    "half of {n}",
    "twice {n}",
    "negative {n}",
    "{n} squared",
    "{n} choose 2",
    "the square root of {n}",
    "{n} million",
]
CHANGED += ["{n} to the power of 2", "{n} factorial", "{n} tenths", "minus {n}", "{n}.5", "1/{n}", "{n}{n}"]
ELSEWHERE = ["see step {n}", "in Section {n}", "could not solve it after {n} attempts"]
NEVER = DENIED + BOUNDED + CHANGED + ELSEWHERE
PLAIN = ["{n}", "exactly {n}", "{n} apples", "{n} in total", "{n}, not {m}", "{n}, so it is enough"]
LANGUAGES = {
    "es": (
        ["La respuesta es {}.", "Respuesta: {}"],
        ["no {n}", "al menos {n}", "casi {n}", "{n} o más", "la mitad de {n}", "{n} o {m}"],
        ["{n}", "exactamente {n}"],
    ),
    "fr": (
        ["La réponse est {}.", "Réponse : {}"],
        ["pas {n}", "au moins {n}", "presque {n}", "{n} ou plus", "le double de {n}", "{n} ou {m}"],
        ["{n}", "{n} euros"],
    ),
    "de": (
        ["Die Antwort ist {}.", "Antwort: {}"],
        ["nicht {n}", "mindestens {n}", "fast {n}", "{n} oder mehr", "{n} oder {m}"],
        ["{n}", "genau {n}"],
    ),
    "ru": (
        ["Ответ: {}.", "Ответ равен {}."],
        ["не {n}", "более {n}", "почти {n}", "{n} или больше", "{n} (неверно)"],
        ["{n}", "{n} долларов"],
    ),
    "zh": (
        ["答案是{}。", "答案：{}"],
        ["不是{n}", "至少{n}", "大于{n}", "{n}的一半", "{n}的倍数", "{n}以上"],
        ["{n}", "{n}个"],
    ),
}
WITHDRAWN = ["\nThat is wrong.", "\nIgnore the above.", "\nThat answer is not right."]
CORRECTED = ["\nSorry, I meant {m}.", "\nI made a mistake: it should be {m}.", "\nWait, it should be {m}."]
MARKS = ["\\boxed{{{n}}}", "#### {n}", "<answer>{n}</answer>", "The answer is {n}."]
numbers = st.integers(4, 997)
few = settings(max_examples=10, deadline=None)


@few
@given(numbers)
@pytest.mark.parametrize("words", NEVER)
def test_denied_bounded_and_changed_values_never_pass(words: str, n: int) -> None:
    texts = [frame.format(words.format(n=n, m=n + 1)) for frame in FRAMES]
    assert [text for text in texts if judge(str(n), text).correct] == []


@few
@given(numbers)
@pytest.mark.parametrize("words", PLAIN)
def test_plain_wordings_pass(words: str, n: int) -> None:
    texts = [frame.format(words.format(n=n, m=n + 1)) for frame in FRAMES[:4]]
    assert [text for text in texts if not judge(str(n), text).correct] == []


@few
@given(numbers)
@pytest.mark.parametrize("language", LANGUAGES)
def test_other_languages(language: str, n: int) -> None:
    frames, never, plain = LANGUAGES[language]
    for frame in frames:
        wrong = [frame.format(words.format(n=n, m=n + 1)) for words in never]
        assert [text for text in wrong if judge(str(n), text).correct] == []
        right = [frame.format(words.format(n=n)) for words in plain]
        assert [text for text in right if not judge(str(n), text).correct] == []


@few
@given(numbers)
@pytest.mark.parametrize("after", WITHDRAWN + CORRECTED)
@pytest.mark.parametrize("mark", MARKS)
def test_withdrawn_answers_never_pass_and_corrections_do(mark: str, after: str, n: int) -> None:
    text = (mark + after).format(n=n, m=n + 1)
    assert not judge(str(n), text).correct
    assert judge(str(n + 1), text).correct == (after in CORRECTED)


@few
@given(numbers)
@pytest.mark.parametrize("blank", ["\\boxed{}", "<answer></answer>", "####"])
def test_a_blank_final_mark_is_no_answer(blank: str, n: int) -> None:
    assert not judge(str(n), f"First I found \\boxed{{{n}}}.\nThe final answer:\n{blank}").correct


@few
@given(numbers, st.sampled_from([("cm", "kg"), ("m", "km"), ("hours", "apples"), ("\\text{ cm}", "\\text{ m}")]))
def test_another_unit_never_passes(n: int, units: tuple[str, str]) -> None:
    asked, said = units
    for text in (f"\\boxed{{{n} {said}}}", f"The answer is {n} {said}.", f"#### {n} {said}"):
        assert not judge(f"{n} {asked}", text).correct


@few
@given(numbers, numbers)
def test_another_value_never_passes(n: int, m: int) -> None:
    for mark in MARKS:
        assert judge(str(n), mark.format(n=m)).correct == (n == m)
