"""Rules of form, and answers that keep or break them in the ways models do."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.format import check
from smarterrouter.profiling.checkers.specs import Format, Rule

SURE = "Sure! Here is what you asked for:\n\n"
OFFER = "\n\nLet me know if you would like any changes!"
LIST = "- red\n- green\n- blue"
POEM = "Old pond,\na frog jumps,\nsplash."
CSV = "name,age\nAda,36\n"
TABLE = "| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |"

RIGHT = [
    (Rule(words=(5, 5)), "One two three four five."),
    (Rule(words=(5, 5)), "**One** two - three *four* well-known!"),
    (Rule(words=(3, 3)), LIST),
    (Rule(words=(3, 3)), SURE + LIST + OFFER),
    (Rule(words=(5, 5)), "One two three four five\n\n(Word count: 5)"),
    (Rule(words=(4, 4)), "one — two—three four"),
    (Rule(words=(2, 2)), "```\none two\n```"),
    (Rule(words=(3, 3)), "Here are three:\n\n- apple\n- plum\n- fig"),
    (Rule(lines=(3, 3)), POEM),
    (Rule(lines=(3, 3)), SURE + POEM + OFFER),
    (Rule(lines=(3, 3)), "**The Pond**\n\n" + POEM),
    (Rule(lines=(3, 3)), "# The Pond\n\n" + POEM.replace("\n", "  \n")),
    (Rule(lines=(3, 3)), "```text\n" + POEM + "\n```"),
    (Rule(lines=(3, 3)), "Here's a haiku:\n\n---\n\n" + POEM + "\n\n---\n\nI hope you like it!"),
    (Rule(sentences=(2, 2)), "Dr. Smith paid $3.50, e.g. for tea. It was good."),
    (Rule(sentences=(2, 2)), "It rained\nall day. We stayed in."),
    (Rule(sentences=(1, 1)), SURE + "It rained."),
    (Rule(sentences=(1, 1)), "**It rained all day on the pond.**"),
    (Rule(sentences=(1, 1)), "Sure! Here's the sentence:\n\n**It rained all day on the pond.**"),
    (Rule(sentences=(1, 1)), "Here it is:\n\nIt rained all day.\n\n(4 words)"),
    (Rule(sentences=(1, 1)), "Sure thing! It rained all day."),
    (Rule(sentences=(1, 1)), "Rent is 480 a month (excl. heating), and there is a deposit."),
    (Rule(sentences=(3, 3)), "- It rained.\n- We stayed\n- Then it ended."),
    (Rule(paragraphs=(2, 2)), "One.\n\nTwo."),
    (Rule(paragraphs=(2, 2)), "## Title\n\nOne.\n\n\n\nTwo."),
    (Rule(paragraphs=(2, 2)), "One.\nTwo."),
    (Rule(paragraphs=(2, 2)), SURE + "One.\n\nTwo." + OFFER),
    (Rule(bullets=(3, 3)), LIST),
    (Rule(bullets=(3, 3)), LIST.replace("-", "*")),
    (Rule(bullets=(3, 3)), LIST.replace("-", "•")),
    (Rule(bullets=(3, 3)), "  - **red**: warm\n  - green\n  - blue"),
    (Rule(bullets=(3, 3)), "- red\n  - crimson\n- green\n- blue"),
    (Rule(bullets=(0, 0)), "Well-known - as such."),
    (Rule(numbered=(2, 2)), "1. red\n2. green"),
    (Rule(numbered=(2, 2)), "1) red\n2) green"),
    (Rule(numbered=(2, 2)), "**1.** red\n**2.** green"),
    (Rule(numbered=(2, 2)), "### 1. Red\nwarm\n### 2. Green\nfresh"),
    (Rule(numbered=(2, 2)), "1. red\n   1. crimson\n2. green"),
    (Rule(characters=(5, 5)), "**Hello**"),
    (Rule(characters=(1, 160)), SURE + "a" * 150),
    (Rule(has="green"), "GREEN"),
    (Rule(has="is green"), "It is **green**."),
    (Rule(lacks="green"), LIST.replace("green", "grey")),
    (Rule(starts="dear"), SURE + "Dear Sir,\nhello"),
    (Rule(starts="dear"), "**Dear** Sir"),
    (Rule(starts="dear"), '"Dear Sir"'),
    (Rule(ends=r"the end"), "It is over. *The End.*"),
    (Rule(ends="kind regards"), "Hello.\n\nKind regards," + OFFER),
    (Rule(every_line=r"^- "), SURE + LIST + OFFER),
    (Rule(every_line=r"^[a-z]+$"), LIST),
    (Rule(every_line=r"^\w+: \d+$"), "**Ada**: 36\n**Bob**: 40"),
    (Rule(case="upper"), "HELLO, 3 WORLDS!"),
    (Rule(case="upper"), "Sure! Here it is:\n\nHELLO"),
    (Rule(case="lower"), "hello, world."),
    (Rule(case="title"), "The Lord of the Rings"),
    (Rule(case="title"), "**A Tale of Two Cities**"),
    (Rule(table=(2, 2)), TABLE),
    (Rule(table=(2, 2)), SURE + TABLE + OFFER),
    (Rule(table=(2, 2)), "```markdown\n" + TABLE + "\n```"),
    (Rule(table=(1, 2)), "a | b\n--- | ---\n1 | 2"),
    (Rule(table=(1, 2)), "| a | b |\n|---|---|\n| x \\| y | 2 |"),
    (Rule(table=(1, 3)), "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |"),
    (Rule(csv=(2, 2)), CSV),
    (Rule(csv=(2, 2)), SURE + "```csv\n" + CSV + "```" + OFFER),
    (Rule(csv=(2, 2)), SURE + CSV + OFFER),
    (Rule(csv=(2, 2)), 'name, quote\n"Ada, L.", "so"'),
    (Rule(yaml_keys=["name", "ports"]), "name: a\nports:\n  - 1\n  - 2\n"),
    (Rule(yaml_keys=["name", "ports"]), "```yaml\n# it\n---\nname: a\nports:\n- 1\n```\nEnjoy!"),
    (Rule(yaml_keys=["name"]), SURE + '"name": a\nmore: b'),
    (Rule(in_order=["first", "then", "last"]), "**First** this, then that, last the rest."),
]


@pytest.mark.parametrize(("rule", "answer"), RIGHT)
def test_an_answer_that_keeps_the_rule_passes(rule: Rule, answer: str) -> None:
    verdict = check(Format([rule]), answer)
    assert verdict.score == 1.0, verdict.why


WRONG = [
    (Rule(words=(5, 5)), "One two three four."),
    (Rule(words=(1, 3)), "One two three four."),
    (Rule(lines=(3, 3)), "Old pond,\na frog jumps."),
    (Rule(lines=(1, 1)), SURE + POEM),
    (Rule(sentences=(2, 2)), "It rained. It poured. It ended."),
    (Rule(sentences=(1, 1)), "It rained! We stayed in."),
    (Rule(paragraphs=(2, 2)), "One.\n\nTwo.\n\nThree."),
    (Rule(paragraphs=(3, 3)), "One.\n\nTwo."),
    (Rule(bullets=(3, 3)), "- red\n- green"),
    (Rule(bullets=(3, 3)), "1. red\n2. green\n3. blue"),
    (Rule(bullets=(3, 3)), "red\ngreen\nblue"),
    (Rule(bullets=(1, 9)), "---"),
    (Rule(numbered=(2, 2)), "- red\n- green"),
    (Rule(numbered=(2, 2)), "1. red\n2. green\n3. blue"),
    (Rule(numbered=(1, 1)), "In 1. FC Köln's year"),
    (Rule(characters=(1, 10)), "Far too long for it"),
    (Rule(has="green"), "red"),
    (Rule(lacks="green"), LIST),
    (Rule(lacks="sure"), SURE + LIST),
    (Rule(lacks="is green"), "It is **green**"),
    (Rule(starts="dear"), "Hello, dear"),
    (Rule(ends="the end"), "The end is near."),
    (Rule(every_line=r"^- "), "- red\ngreen"),
    (Rule(case="upper"), "HELLO World"),
    (Rule(case="upper"), "123"),
    (Rule(case="lower"), "hello World"),
    (Rule(case="title"), "The lord of the Rings"),
    (Rule(table=(2, 2)), "| a | b |\n| 1 | 2 |\n| 3 | 4 |"),
    (Rule(table=(2, 2)), "| a | b |\n|---|---|\n| 1 | 2 |"),
    (Rule(table=(2, 2)), "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |"),
    (Rule(table=(2, 2)), "a,b\n1,2\n3,4"),
    (Rule(table=(2, 3)), TABLE),
    (Rule(csv=(2, 2)), "name,age\nAda,36,x"),
    (Rule(csv=(2, 2)), "name,age"),
    (Rule(csv=(2, 2)), "| name | age |\n|---|---|\n| Ada | 36 |"),
    (Rule(csv=(2, 2)), 'name,age\n"Ada,36'),
    (Rule(yaml_keys=["name", "ports"]), "name: a"),
    (Rule(yaml_keys=["name"]), '{"name": "a"}'),
    (Rule(yaml_keys=["name"]), "ports:\n  name: a"),
    (Rule(yaml_keys=["name"]), "name: a\nand some prose"),
    (Rule(in_order=["first", "then"]), "Then this, first that."),
]


@pytest.mark.parametrize(("rule", "answer"), WRONG)
def test_an_answer_that_breaks_the_rule_fails(rule: Rule, answer: str) -> None:
    verdict = check(Format([rule]), answer)
    assert verdict.score == 0.0, verdict.why


def test_all_rules_must_hold_and_the_broken_one_is_named() -> None:
    spec = Format([Rule(bullets=(3, 3)), Rule(lacks="green")])
    assert check(spec, LIST.replace("green", "grey")).score == 1.0
    verdict = check(spec, LIST)
    assert verdict.score == 0.0
    assert "green" in verdict.why


def test_a_small_snippet_does_not_stand_for_the_whole_answer() -> None:
    answer = "- Use `x`.\n- It is short.\n- It is well known.\n\n```python\nx\n```"
    assert check(Format([Rule(bullets=(3, 3))]), answer).score == 1.0


@pytest.mark.parametrize(
    "rule", [Rule(has="("), Rule(every_line="["), Rule(ends="*"), Rule(in_order=["("])]
)
def test_a_pattern_that_cannot_be_used_leaves_the_answer_unmeasured(rule: Rule) -> None:
    assert check(Format([rule]), "any").score is None
