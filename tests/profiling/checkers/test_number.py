"""The number that an answer concludes with, however it is written."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.number import check
from smarterrouter.profiling.checkers.specs import Number

WRITTEN = [
    (391, "391"),
    (391, "391."),
    (391, "**391**"),
    (391, "`391`"),
    (1234.5, "1,234.50"),
    (1234, "1 234"),
    (1234, "1\u202f234"),
    (1234.5, "1.234,50 €"),
    (1234567, "1,234,567"),
    (1234567, "12,34,567"),
    (1500, "1.5e3"),
    (3e8, r"$3 \times 10^{8}$ m/s"),
    (3e8, "3 x 10^8"),
    (1_500_000, "about 1.5 million"),
    (5000, "5k"),
    (0.75, "3/4"),
    (0.75, r"\boxed{\frac{3}{4}}"),
    (0.75, r"\(\dfrac{3}{4}\)"),
    (0.75, "¾"),
    (2.5, "2½"),
    (2.5, r"$2\frac{1}{2}$"),
    (2.5, "2 1/2"),
    (75, "75%"),
    (75, "75 percent"),
    (0.75, "75%"),
    (12, "Twelve"),
    (12, "A dozen"),
    (42, "forty-two"),
    (105, "one hundred and five"),
    (-5, "minus five"),
    (-2.5, "negative 2.5"),
    (1234.5, "1 234,50 €"),
    (45, "$45"),
    (45, "$45.00"),
    (1.23, "€1,23"),
    (3.5, "3,5"),
    (7, "7 apples"),
    (5, "5kg"),
    (-5, "x = \u22125"),
    (-3, "-3"),
    (1000, "1_000"),
]


@pytest.mark.parametrize(("wanted", "answer"), WRITTEN)
def test_a_number_may_be_written_in_many_ways(wanted: float, answer: str) -> None:
    verdict = check(Number(wanted), answer)
    assert verdict.score == 1.0, verdict.why


CONCLUDED = [
    (391, "17 * 23 = 391"),
    (391, "17 × 23 = **391**"),
    (391, "So it is 391, not 381"),
    (391, "It is not 381 but 391."),
    (391, "**391** (since 17*23 = 340 + 51)"),
    (391, "391. 17 * 20 = 340 and 17*3=51"),
    (391, "**Answer: 391**"),
    (391, "Answer: 391 (17*20=340, 17*3=51)"),
    (391, "The result is **391**.\n\nHere's how:\n1. 17 × 20 = 340\n2. 17 × 3 = 51"),
    (391, "17 × 23 = 391.\n\nVerification: 391 / 23 = 17."),
    (391, "I apologize for the confusion. 391 is the product of 17 and 23."),
    (391, "The answer is 381. Wait, let me recheck: 17*23 = 391. The answer is 391."),
    (391, "The answer is 381. Wait, that's wrong: 17*23=391."),
    (391, "The answer is 391. Let me double-check.\n\nWait, 17*20=340, 17*3=51. Yes, correct."),
    (45, "The total is $45 for 3 people."),
    (45, "So 3 people pay $45."),
    (45, "The total is $45.\n\nBreakdown:\n- 3 × $10 = $30\n- 3 × $5 = $15"),
    (45, "The **total cost** for **3 people** is **$45**."),
    (45, "Answer: To find the total, we multiply 3 by 15. So the total is 45."),
    (45, "So the total is 45, which is 15 each."),
    (45, "When x = 3, the value is 45."),
    (45, "The value is 45 when x = 3."),
    (45, "The total is 45, since there are 3 people and each pays 15."),
    (45, "### Answer\n\n45"),
    (45, "## Final Answer\n\n**45**"),
    (45, "**Final Answer:**\n$$\\boxed{45}$$"),
    (45, "The answer is 45 for 3 people."),
    (45, "Let me explain.\n\n<answer>45</answer>"),
    (18, "She makes 9 * 2 = $18 every day at the market.\n#### 18"),
    (4, "So you need 3.75, which rounds up to 4 buses."),
    (12, "Therefore, Sarah has 12 apples left after giving 5 away."),
    (12, "After 5 days there are 12 left."),
    (12, "Step 1: 20 - 5 = 15\nStep 2: 15 - 3 = 12\n\nSarah has 12 apples."),
    (8, "\\[\n3 + 5 = 8\n\\]"),
    (8, "#### Step 2: Add 3\n\n5 + 3 = 8"),
    (5, "The answer is $x = 5$."),
    (5, "10-5 = 5"),
    (0.333, "1/3 ≈ 0.333"),
    (1 / 3, "1/3 ≈ 0.333"),
    (0.5, "The probability is 1/2, or 50%."),
    (50, "The probability is 1/2, or 50%."),
    (6, "It takes 6 hours to drive 300 miles."),
    (1000, "The sum of the first 4 terms is 1,000."),
    (40, "The sum of 17 and 23 is 40."),
    (15, "Train A meets train B after 15 minutes."),
    (120, "5! = 120"),
    (120, "There are 120 ways (5!)."),
    (24, "4! = 4 × 3 × 2 × 1 = 24 ways to arrange the 4 books."),
    (
        60,
        "To find the average speed:\n\n1. **Distance**: 120 km\n2. **Time**: 2 h\n\n"
        "Speed = 120 / 2 = 60 km/h\n\nLet me know if you need help with 3 other problems!",
    ),
    (
        15,
        "Let's go step by step.\n\n1. First, 20% of 50 is 10.\n2. Then 10 + 5 = 15.\n\n"
        "Therefore, the final result is **15**.\n\nWould you like another of the 3 problems?",
    ),
    (2024, "The year is 2024, the one after 2023."),
    (0.05, "The ball costs $0.05 and the bat costs $1.05."),
    (0.05, "So the ball costs $0.05; the bat costs $1.05."),
    (0.05, "**The ball costs $0.05, and the bat costs $1.05.**"),
    (0.05, "The ball costs **$0.05** and the bat **$1.05**."),
    (0.05, "So the bat costs $1.05 and the ball costs **$0.05**."),
    (0.05, "The ball costs 5 cents ($0.05)."),
    (0.05, "Therefore, the ball costs 5 cents ($0.05) and the bat costs 105 cents ($1.05)."),
    (0.05, "The intuitive answer is $0.10. But no: 2x = 0.1, so the ball costs $0.05."),
    (1.1, "The ball costs $0.05 and the bat costs $1.05, so together they cost $1.10."),
    (7, "So she has 7 apples and Tom has 3."),
    (7, "At first she has 12 apples and at the end she has 7."),
    (45, "Each of them pays 15 and the total is 45."),
    (45, "Anna pays 15, Ben pays 30 and together they pay 45."),
    (45, "The total is 45, so 15 each."),
    (15, "The first is at 60 km/h and the second is at 80 km/h, so they meet after 15 minutes."),
    (71, "You need 74 m, minus 3 m for the gate, so 71 m."),
    (9, "You can buy 9 bulbs, so you can't buy 10."),
    (4, "You need 4 trips: 270, 230 + 170, 220 + 160 and 140."),
    (45, "For 3 people: 45 euros."),
    (24, "2x = 48 and x = 24."),
    (85, "80 % of the price is 68 € and the price is 85 €."),
    (8, "Line 8 is wrong and line 7 is fine."),
]


@pytest.mark.parametrize(("wanted", "answer"), CONCLUDED)
def test_the_number_that_is_concluded_counts(wanted: float, answer: str) -> None:
    verdict = check(Number(wanted), answer)
    assert verdict.score == 1.0, verdict.why


WRONG = [
    (391, ""),
    (391, "I don't know."),
    (391, "381"),
    (391, "3910"),
    (391, "391.5"),
    (391, "-391"),
    (391, "It is not 391."),
    (381, "So it is 391, not 381"),
    (340, "17*20=340, plus 51 = 391"),
    (391, "The answer is 381, because 17*23 is close to 391"),
    (391, "The answer is 391. Wait, that's wrong. It is 381."),
    (391, "17*23 = 391? No. The answer is 381."),
    (391, "391 is tempting. **Answer: 381**"),
    (391, "First 391 - 10 = 381.\n\n\\boxed{381}"),
    (17, "17 and 23 make 391"),
    (3, "So the total is 45 for 3 people"),
    (45, "The total is $48"),
    (30, "First, 3 × 10 = 30. Then 3 × 5 = 15.\nTotal: **$45**"),
    (12, "x = 12, so 2x = 24"),
    (5, "-5"),
    (1, "The answer is the one in line 5"),
    (1234, "1,235"),
    (100, "The answer is 10%"),
    (2023, "The year is 2024, the one after 2023."),
    (2023, "2024 (2023 was the year before)"),
    (15, "1. 10 + 5 = 15\n2. 15 * 2 = 30\n\nSo the final answer is 30."),
    (1.05, "The ball costs $0.05 and the bat costs $1.05."),
    (0.05, "The ball costs $0.10 and the bat costs $0.05."),
    (1.05, "The ball costs $0.10 and the bat $1.05."),
    (0.1, "The intuitive answer is $0.10, but that's wrong.\n\nIt costs $0.05."),
    (3, "So she has 7 apples and Tom has 3."),
    (60, "The first is at 60 km/h and the second is at 80 km/h, so they meet after 15 minutes."),
    (270, "You need 4 trips: 270, 230 + 170, 220 + 160 and 140."),
    (48, "2x = 48 and x = 24."),
    (7, "Line 8 is wrong and line 7 is fine."),
    (0.5, "The ball costs 5 cents ($0.05)."),
]


@pytest.mark.parametrize(("wanted", "answer"), WRONG)
def test_another_number_is_wrong(wanted: float, answer: str) -> None:
    verdict = check(Number(wanted), answer)
    assert verdict.score == 0.0, verdict.why


@pytest.mark.parametrize(("answer", "score"), [("3.14", 1.0), ("3.1416", 1.0), ("3.2", 0.0)])
def test_the_tolerance_is_kept(answer: str, score: float) -> None:
    assert check(Number(3.14, tolerance=0.01), answer).score == score


def test_the_reason_names_both_numbers() -> None:
    assert check(Number(391), "381").why == "it says 381, not 391"
