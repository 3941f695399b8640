"""What of a model's reply is its answer, and how it reads without marks and courtesies."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.plain import boxed, plain
from smarterrouter.profiling.checkers.reading import (
    answer_of,
    body,
    fenced,
    prose,
    sentences,
    without_offers,
)

REASONED = [
    ("<think>17 or 18?</think>\n\n18", "18"),
    ("<thinking>hm</thinking>18", "18"),
    ("<THINK>hm</THINK>18", "18"),
    ("<reasoning>\nhm\n</reasoning>\n18", "18"),
    ("the prompt opened it </think>18", "18"),
    ("<think>a</think>First part.\n<think>b</think>\nSecond part.", "First part.\nSecond part."),
    ("<think>a <think> b</think>18", "18"),
    ("[THINK]hm[/THINK]18", "18"),
    ("◁think▷hm◁/think▷18", "18"),
    ("<seed:think>hm</seed:think>18", "18"),
    ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>18<|END_RESPONSE|>", "18"),
    ("<|channel>thought\nhm<channel|>18", "18"),
    (
        "<|channel|>analysis<|message|>17?<|end|><|start|>assistant<|channel|>final<|message|>18",
        "18",
    ),
    ("<|channel|>final<|message|>18<|return|>", "18"),
    ("analysisThey want a number.assistantfinal18", "18"),
    ("18<|im_end|>", "18"),
    ("18</s>", "18"),
    ("<answer>18</answer>", "18"),
    ("\ufeff18\r\n19", "18\n19"),
    ("18", "18"),
    ("", ""),
]
UNFINISHED = [
    "<think>I wonder",
    "<think>\n",
    "<think>a</think>\n<think>The answer is 18",
    "<|channel|>analysis<|message|>The answer is 18",
    "[THINK]18",
]


@pytest.mark.parametrize(("text", "answer"), REASONED)
def test_reasoning_is_no_part_of_the_answer(text: str, answer: str) -> None:
    assert answer_of(text) == answer


@pytest.mark.parametrize("text", UNFINISHED)
def test_reasoning_that_never_ends_leaves_no_answer(text: str) -> None:
    assert answer_of(text) == ""


def test_what_was_said_before_unfinished_reasoning_stays_without_it() -> None:
    assert answer_of("It is 18.\n<think>or is it") == "It is 18."


def test_a_tag_in_the_middle_of_a_sentence_is_spoken_of_and_opens_nothing() -> None:
    text = "Wrap it in `<think>` and go on."
    assert answer_of(text) == text


FENCES = [
    ("```sql\nSELECT 1\n```", ("sql",), ("SELECT 1",)),
    ("Text\n```SQL\nSELECT 1\n```\nmore", ("sql",), ("SELECT 1",)),
    ("```\nSELECT 1\n```", ("sql",), ("SELECT 1",)),
    ("~~~python\nx\n~~~", ("python",), ("x",)),
    ("```python title=a.py\nx\n```", ("python", "py"), ("x",)),
    ("1. So:\n   ```python\n   x\n   ```", ("python",), ("   x",)),
    ("```python\nnever closed", ("python",), ("never closed",)),
    ("````md\n```python\nx\n```\n````", (), ("```python\nx\n```",)),
    ("```sql SELECT 1```", ("sql",), ("SELECT 1",)),
    ("```python\na\n```\n```sql\nb\n```", ("sql",), ("b",)),
    ("```python\na\n```\n```sql\nb\n```", (), ("a", "b")),
    ("```js\na\n```", ("sql",), ()),
    ("no code at all", ("sql",), ()),
    ("inline ```x``` is no fence", (), ()),
]


@pytest.mark.parametrize(("text", "languages", "blocks"), FENCES)
def test_blocks_of_code_are_found(
    text: str, languages: tuple[str, ...], blocks: tuple[str, ...]
) -> None:
    assert fenced(text, *languages) == blocks


def test_prose_is_what_stands_outside_of_the_fences() -> None:
    assert prose("a\n```\nb\n```\nc") == "a\nc"


PLAIN = [
    ("**Paris**", "Paris"),
    ("It is *very* _nice_ and __bold__.", "It is very nice and bold."),
    ("### Result\nfine", "Result\nfine"),
    ("> quoted", "quoted"),
    ("2 * 3 * 4", "2 * 3 * 4"),
    ("2**3", "2**3"),
    ("* a bullet", "* a bullet"),
    ("snake_case_name", "snake_case_name"),
    (r"\boxed{42}", "42"),
    (r"$\boxed{\text{B}}$", "B"),
    (r"\frac{3}{4}", "3/4"),
    (r"\dfrac{-3}{4}", "-3/4"),
    (r"2\frac{1}{2}", "2 1/2"),
    (r"\frac34", "3/4"),
    (r"$x = 5$ and $y$", "x = 5 and y"),
    ("$45 and $50", "$45 and $50"),
    (r"\$45", "$45"),
    (r"45\%", "45%"),
    (r"\boxed{64.1\,^\circ\text{C}}", "64.1 °C"),
    (r"$20^{\circ}$", "20°"),
    (r"3 \times 10^{8}", "3 × 10^8"),
    (r"O(n \log n)", "O(n log n)"),
    ("[text](https://example.org/a)", "text"),
    ("[1, 2](3)", "[1, 2](3)"),
    ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
    ("\u22125", "-5"),
    ("it\u2019s \u201cso\u201d", 'it\'s "so"'),
    ("a<br>b", "ab"),
    ("n<sup>2</sup>", "n^2"),
    ("`code`", "code"),
]


@pytest.mark.parametrize(("text", "bare"), PLAIN)
def test_marks_do_not_count(text: str, bare: str) -> None:
    assert plain(text) == bare


def test_the_last_box_is_read_with_the_braces_in_it() -> None:
    assert boxed(r"\boxed{1} so \boxed{\frac{3}{4}} fine") == r"\frac{3}{4}"
    assert boxed("no box") is None


SENTENCES = [
    ("One. Two! Three?", 3),
    ("Dr. Smith met Mr. Jones at 3.5 km, e.g. there.", 1),
    ("It costs 3.50. That is cheap.", 2),
    ("Fruit, vegetables, etc. are fine.", 1),
    ("We saw fruit, etc. Then we left.", 2),
    ("J. R. Smith wrote it.", 1),
    ("Well... it works.", 1),
    ("Wait... It works.", 2),
    ('He said "Go." Then he left.', 2),
    ("5! = 120 is large.", 1),
    ("No end", 1),
    ("", 0),
    ("一。二。", 2),
    ("So did I. Then we left.", 2),
]


@pytest.mark.parametrize(("text", "count"), SENTENCES)
def test_sentences_end_where_a_reader_ends_them(text: str, count: int) -> None:
    found = sentences(text)
    assert len(found) == count, found


POLITE = [
    ("Sure! Here is the list:\n\n- a\n- b\n\nLet me know if you need more!", "- a\n- b"),
    ("Certainly!\n\n---\n\na\n\n---\n\nI hope this helps!", "a"),
    ("Here's a haiku:\n\nold pond", "old pond"),
    ("a\n\n(Word count: 1)", "a"),
    ("I'll list them:\n- a", "- a"),
    ("I have a dog.\nIt barks.", "I have a dog.\nIt barks."),
    ("Sure!", "Sure!"),
    ("Here is my point. It goes on\nand on", "Here is my point. It goes on\nand on"),
]


@pytest.mark.parametrize(("text", "product"), POLITE)
def test_courtesies_around_the_answer_are_told_from_it(text: str, product: str) -> None:
    assert body(text) == product


def test_offers_go_but_remarks_that_may_say_something_stay() -> None:
    text = "a\n\nNote: b\n\nWould you like more?"
    assert without_offers(text).strip() == "a\n\nNote: b"
