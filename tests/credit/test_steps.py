"""Steps join to the trace whatever the tokenizer; blank steps and end tokens go where the docstrings say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.credit.splitters import WHOLE, cut, merge
from app.credit.steps import split
from app.tokens import TokenText

END = 0


def chars(ids: list[int]) -> str:
    return "".join(chr(i) for i in ids if i != END)


def utf8(ids: list[int]) -> str:
    """Like a byte-level tokenizer: a token is a byte (plus 1), unfinished characters show as U+FFFD."""
    return bytes(i - 1 for i in ids if i != END).decode("utf-8", errors="replace")


def words(ids: list[int]) -> str:
    """Like a word-level tokenizer without a decoder: tokens are joined by spaces, so pieces do not concatenate."""
    return " ".join("\n" if i == 1 else f"w{i}" for i in ids if i != END)


def leading_space(ids: list[int]) -> str:
    """Like SentencePiece: every word token carries a space in front, which the decoder drops at the very start."""
    return "".join("\n" if i == 1 else f" w{i}" for i in ids if i != END).removeprefix(" ")


TEXTS = st.text(st.sampled_from("ab 1=\n.é漢🙂"), max_size=60)


def check(token_ids: list[int], decode, style: str = "lines", most: int | None = None) -> list:
    steps = split(token_ids, TokenText(decode), style, most)
    assert [t for s in steps for t in token_ids[s.start : s.end]] == token_ids
    assert "".join(s.text for s in steps) == decode(token_ids)
    assert all(s.start < s.end for s in steps)
    if len(steps) > 1:
        assert all(s.text.strip() for s in steps)
    return steps


@given(TEXTS)
def test_character_tokens_join(text: str) -> None:
    steps = check([ord(c) for c in text] + [END], chars)
    assert len(steps) == max(1, sum(bool(line.strip()) for line in text.split("\n")))


@given(TEXTS)
def test_byte_tokens_join_and_split_like_characters(text: str) -> None:
    by_bytes = check([b + 1 for b in text.encode()] + [END], utf8)
    by_chars = check([ord(c) for c in text] + [END], chars)
    assert [s.text for s in by_bytes] == [s.text for s in by_chars]


@given(st.lists(st.integers(0, 5), max_size=40))
def test_tokens_whose_text_depends_on_neighbours_join(token_ids: list[int]) -> None:
    check(token_ids, words)
    check(token_ids, leading_space)


@given(st.lists(st.binary(min_size=1, max_size=3), max_size=20))
def test_any_bytes_join_even_where_they_are_no_text(parts: list[bytes]) -> None:
    token_ids = [b + 1 for part in parts for b in part]
    steps = split(token_ids, TokenText(utf8))
    assert [t for s in steps for t in token_ids[s.start : s.end]] == token_ids


@given(TEXTS, st.integers(1, 6))
def test_merging_keeps_the_trace_and_the_number(text: str, most: int) -> None:
    token_ids = [ord(c) for c in text] + [END]
    assert len(check(token_ids, chars, most=most)) == min(most, len(check(token_ids, chars)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", ["a\n", "b"]),
        ("a\nb\n", ["a\n", "b\n"]),
        ("a\n\n\nb", ["a\n\n\n", "b"]),
        ("a\n  \nb", ["a\n  \n", "b"]),
        ("\n\na\nb", ["\n\na\n", "b"]),
        ("a\n  b", ["a\n", "  b"]),
        ("a", ["a"]),
        ("a\n \n", ["a\n \n"]),
        ("\n", ["\n"]),
    ],
)
def test_lines(text: str, expected: list[str]) -> None:
    assert [s.text for s in check([ord(c) for c in text] + [END], chars)] == expected


def test_no_tokens_no_steps() -> None:
    assert split([], TokenText(chars)) == []


def test_only_the_end_token_is_one_step() -> None:
    assert [(s.start, s.end, s.text) for s in split([END], TokenText(chars))] == [(0, 1, "")]


def test_the_end_token_belongs_to_the_last_step() -> None:
    steps = split([ord("a"), ord("\n"), END], TokenText(chars))
    assert [(s.start, s.end) for s in steps] == [(0, 3)]


def test_a_step_ends_with_the_token_that_completes_the_newline() -> None:
    pieces = {1: "one", 2: ".\n\n", 3: "two", 4: "\nthr", 5: "ee"}
    steps = split([1, 2, 3, 4, 5], TokenText(lambda ids: "".join(pieces[i] for i in ids)))
    assert [(s.start, s.end) for s in steps] == [(0, 2), (2, 4), (4, 5)]
    assert [s.text for s in steps] == ["one.\n\n", "two\nthr", "ee"]


def test_200_steps() -> None:
    assert len(check([ord(c) for c in "x\n" * 200] + [END], chars)) == 200


@given(st.integers(1, 50), st.integers(1, 20))
def test_merged_groups_differ_by_at_most_one(steps: int, most: int) -> None:
    kept = merge(list(range(1, steps)), most)
    sizes = [b - a for a, b in zip([0, *kept], [*kept, steps], strict=True)]
    assert sum(sizes) == steps and len(sizes) == min(steps, most) and max(sizes) - min(sizes) <= 1


@given(TEXTS)
def test_cuts_are_inside_and_ascending(text: str) -> None:
    places = cut(text)
    assert places == sorted(set(places)) and all(0 < p < len(text) for p in places)


@pytest.mark.parametrize(
    ("style", "text", "expected"),
    [
        ("blocks", "a\nb\n\nc\nd\n \n\ne", ["a\nb\n\n", "c\nd\n \n\n", "e"]),
        ("headings", "Intro\nStep 1: a\nb\n## Step 2\nc\n**Step 3** d",
         ["Intro\n", "Step 1: a\nb\n", "## Step 2\nc\n", "**Step 3** d"]),
        ("sentences", "It is 3.5 m. So x = 2! Why? Go\nnext", ["It is 3.5 m. ", "So x = 2! ", "Why? ", "Go\n", "next"]),
        ("lines", "a\n$$\nx\n= 1\n$$\nb", ["a\n", "$$\nx\n= 1\n$$\n", "b"]),
        ("lines", "a\n\\[\nx\n\\]\nb", ["a\n", "\\[\nx\n\\]\n", "b"]),
        ("blocks", "a\n\n```\nx\n\ny\n```\n\nb", ["a\n\n", "```\nx\n\ny\n```\n\n", "b"]),
        ("lines", "\\begin{align*}\na\n\\end{align*}\nb", ["\\begin{align*}\na\n\\end{align*}\n", "b"]),
        ("lines", "a $$ unclosed\nb", ["a $$ unclosed\n", "b"]),
    ],
)  # fmt: skip
def test_styles(style: str, text: str, expected: list[str]) -> None:
    assert [s.text for s in check([ord(c) for c in text] + [END], chars, style)] == expected


@given(
    st.text(st.sampled_from("aS. \n$1`"), max_size=60), st.sampled_from(["lines", "blocks", "headings", "sentences"])
)
def test_every_style_joins_and_keeps_maths_and_code_whole(text: str, style: str) -> None:
    steps = check([ord(c) for c in text] + [END], chars, style)
    for span in WHOLE.finditer(text):
        inside = [s.end for s in steps if span.start() < s.end < span.end()]
        assert not inside
