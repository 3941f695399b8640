"""An answer that comes down to a word, a name or a piece of code."""

from __future__ import annotations

import pytest

from smarterrouter.profiling.checkers.exact import check
from smarterrouter.profiling.checkers.specs import Exact

CAPITAL = Exact(["Paris"], ["Lyon", "Marseille"])
YES = Exact(["yes"], ["no"])
NO = Exact(["no"], ["yes"])
SPEED = Exact(["O(n log n)"], ["O(n)", "O(n^2)", "O(log n)"])

READY = Exact(["18:45", "6:45 pm"], ["18:15", "17:20", "16:55"])
FIRST = Exact(["Nils"], ["Per", "Ova"])

RIGHT = [
    (CAPITAL, "Paris"),
    (CAPITAL, "paris!"),
    (CAPITAL, "PARIS."),
    (CAPITAL, "The capital is **Paris**."),
    (CAPITAL, "Answer: paris!"),
    (CAPITAL, "\\boxed{\\text{Paris}}"),
    (CAPITAL, "It's Paris, not Lyon."),
    (CAPITAL, "Not Lyon; Paris."),
    (CAPITAL, "The answer is not Lyon but Paris."),
    (CAPITAL, "The capital of France is Paris, rather than Lyon."),
    (CAPITAL, "Many think it's Lyon, but the capital is Paris."),
    (CAPITAL, "While Lyon is the second largest city, the capital is Paris."),
    (CAPITAL, "Lyon is large. Marseille too.\n\nSo the answer is Paris."),
    (CAPITAL, "Paris. Lyon is only the third largest city."),
    (CAPITAL, "The answer is: Paris, as Lyon is smaller."),
    (CAPITAL, "**Paris**\n\nLyon is a city too, by the way."),
    (CAPITAL, "Is it Lyon? Wait, no. It is Paris."),
    (YES, "Yes"),
    (YES, "Yes, there is no exception."),
    (YES, "**Yes.** No doubt."),
    (YES, "The answer is yes."),
    (NO, "No, it is not prime."),
    (NO, "No. Some say yes."),
    (NO, "No"),
    (SPEED, "O(n log n)"),
    (SPEED, "$O(n \\log n)$"),
    (SPEED, "`O(nlogn)`"),
    (SPEED, "It runs in `O(n log n)`, not O(n²)."),
    (SPEED, "**O(n·log n)** time"),
    (Exact(["O(n^2)"], ["O(n)"]), "The loops are nested, so it takes O(n²)."),
    (Exact(["[1, 2, 3]"]), "[1,2,3]"),
    (Exact(["[1,2,3]"]), "It prints `[1, 2, 3]`."),
    (Exact(["[1, 2, 3]"]), "```python\n[1, 2, 3]\n```"),
    (Exact(["{'a': 1}"]), '{"a":1}'),
    (Exact(["x + 1"]), "The derivative is $x+1$."),
    (Exact(["New York"], ["York"]), "New York"),
    (Exact(["York"], ["New York"]), "It's York."),
    (Exact(["cafe"]), "Café"),
    (Exact(["Saint-Exupéry"]), "Antoine de Saint Exupery"),
    (Exact(["the Nile"]), "Nile river"),
    (Exact(["Lord of the Rings"]), '"The Lord of the Rings"'),
    (Exact(["apple, banana, cherry"]), "1. Apple\n2. Banana\n3. Cherry"),
    (Exact(["apple, banana, cherry"]), "apple, banana, and cherry"),
    (Exact(["oak\nfir\nbay"]), "The answer is:\n\noak\nfir\nbay"),
    (Exact(["oak\nfir\nbay"]), "**Answer:**\n1. Oak\n2. Fir\n3. Bay"),
    (Exact(["-5"], ["5"]), "x = -5"),
    (Exact(["3.5"]), "It is 3.5."),
    (Exact(["C++"], ["C"]), "C++"),
    (Exact(["C"], ["C++"]), "C."),
    (Exact(["valid"], ["invalid"]), "This is valid JSON."),
    (Exact(["invalid"], ["valid"]), "It is invalid."),
    (Exact(["not guilty"], ["guilty"]), "The verdict: not guilty."),
    (Exact(["colour", "color"]), "Color"),
    (Exact(["Au"]), "The symbol for gold is **Au** (from Latin *aurum*)."),
    (READY, "At first I would say 18:15. But the oven must be hot. Therefore, **18:45**."),
    (READY, "The oven is on at 17:20. It takes 85 minutes. So it is ready at 18:45."),
    (READY, "The oven is on at 17:20, it seems.\n\nIn conclusion, 18:45."),
    (READY, "It is out at 17:20, and then rests.\n\nIt can be eaten at **18:45**."),
    (READY, "It is out at 17:20.\n\n### Conclusion\n\n18:45 it is. I hope this helps!"),
    (READY, "It is out at 17:20, and then rests.\n\n\\[\\boxed{18:45}\\]"),
    (READY, "Start: 17:20\nEnd: 18:45\n\nSo it's ready at 18:45, which is 85 minutes after 17:20."),
    (READY, "The answer is 18:45. It is out at 17:20. So 17:20 is when it begins to rest."),
    (READY, "**18:45**\n\nIt is out at 17:20. Therefore it rests from 17:20."),
    (READY, "You can eat at **18:45**. It is out at 17:20. So it rests from 17:20."),
    (READY, "18:45. It is out at 17:20. Therefore it rests from 17:20."),
    (READY, "17:20 + 1:25 = 18:45"),
    (READY, "18:15 - 0:55 + 1:25 = 18:45"),
    (READY, "18:45 - the oven is on at 17:20."),
    (READY, "17:20 is when it begins, therefore 18:45 is when it ends."),
    (READY, "You can eat at quarter to seven (18:45)."),
    (READY, "**Answer:** quarter to seven (18:45)"),
    (READY, "Quarter to seven [18:45], as the oven is on at 17:20."),
    (READY, "The oven is on at 17:20. So you can eat at quarter to seven (18:45)."),
    (READY, "It is out at twenty past five (17:20), so you eat at quarter to seven (18:45)."),
    (READY, "You can eat at quarter to seven (18:45), not at a quarter past six (18:15)."),
    (READY, "- out at 17:20\n- rest till 18:45\n\nDinner (18:45)"),
    (CAPITAL, "The obvious answer is Lyon, but that's wrong. Therefore, Paris."),
    (CAPITAL, "Lyon. Wait, that's wrong. It is Paris."),
    (CAPITAL, "Lyon comes first to mind, but the capital, of course, is **Paris**."),
    (CAPITAL, "Lyon is a candidate.\n\nThus the capital is Paris.\n\nThat is all there is to it."),
    (CAPITAL, "Lyon is a candidate. So is Marseille. Conclusion: Paris."),
    (YES, "Yes, 7 is prime. It has no divisors. So there is no exception."),
    (NO, "Yes seems tempting at first. But 91 = 7 * 13. Therefore, **No**."),
    (FIRST, "The first to arrive was Nils. Per came second, then Ova."),
    (FIRST, "Per was before Ova. Thus Ova isn't it. Therefore it was Nils (and not Per)."),
    (FIRST, "The second tallest is Nils (Ova > Nils > Per > Tuva)."),
    (FIRST, "It was Nils (Per and Nils tell the truth, Ova doesn't)."),
    (FIRST, "I'd say Per looks like it, but he always does. It must have been Nils, who ran."),
]


@pytest.mark.parametrize(("spec", "answer"), RIGHT)
def test_a_right_answer_passes_in_its_own_style(spec: Exact, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 1.0, verdict.why


WRONG = [
    (CAPITAL, ""),
    (CAPITAL, "I don't know"),
    (CAPITAL, "Lyon"),
    (CAPITAL, "Parisian"),
    (CAPITAL, "It's Lyon, not Paris"),
    (CAPITAL, "The answer is Lyon."),
    (CAPITAL, "Paris is a candidate, but the answer is Marseille."),
    (CAPITAL, "Lyon. Many think Paris."),
    (CAPITAL, "It might be Paris or Lyon."),
    (CAPITAL, "It's not Paris."),
    (CAPITAL, "While Paris is famous, the capital is Lyon."),
    (CAPITAL, "Paris? Wait, no. It is Lyon."),
    (Exact(["Paris"]), "Paris is near. The answer is Rome."),
    (YES, "No, although some say yes."),
    (NO, "Yes, no doubt."),
    (SPEED, "O(n)"),
    (SPEED, "O(n^2 log n)"),
    (Exact(["O(n)"], ["O(n log n)"]), "O(n log n)"),
    (Exact(["valid"], ["invalid"]), "invalid"),
    (Exact(["valid"], ["invalid"]), "It is not valid."),
    (Exact(["guilty"], ["not guilty"]), "Not guilty."),
    (Exact(["oak\nfir\nbay"]), "The answer is:\n\noak\nbay\nfir"),
    (Exact(["42"]), "42.5"),
    (Exact(["42"]), "142"),
    (Exact(["5"], ["-5"]), "-5"),
    (Exact(["5"]), "-5"),
    (Exact(["C"], ["C++"]), "C++"),
    (Exact(["C"]), "C#"),
    (Exact(["[1,2,3]"]), "[1,3,2]"),
    (Exact(["[1,2,3]"]), "[1,2,34]"),
    (READY, "At first I would say 18:45. But the oven must be hot. Therefore, **18:15**."),
    (READY, "It's ready at 18:45, they say. So it is ready at 18:15."),
    (READY, "It can be eaten at 18:45. Hmm, wait. It has to rest. Therefore, **18:15**."),
    (READY, "You can eat at a quarter past six (18:15). The oven is hot at 18:45."),
    (READY, "The answer is a quarter past six (18:15). It is not 18:45."),
    (READY, "You can eat at quarter past six (not 18:45)."),
    (READY, "18:15\n\nBut it can be eaten at 18:45 as well."),
    (READY, "18:45 is when it begins, therefore 17:20 is when it ends."),
    (READY, "The intuitive answer is 18:45, but the correct answer is 18:15."),
    (READY, "It seems to be 18:45. But no, it's 18:15."),
    (CAPITAL, "Paris. Wait, that's wrong. It is Lyon."),
    (YES, "Yes seems tempting at first. But 91 = 7 * 13. Therefore, **No**."),
    (FIRST, "The first to arrive was Per. Nils came second, then Ova."),
    (FIRST, "Per was before Ova.\nNils was last.\n\nSo the first was **Per**."),
    (FIRST, "The second tallest is Per (Ova > Per > Nils > Tuva)."),
    (FIRST, "It was Per (Per and Nils tell the truth, Ova doesn't)."),
    (FIRST, "It was Nils (or Per)."),
    (FIRST, "Nils had left (so it was Per)."),
    (FIRST, "I'd say Nils is suspicious, but he always is. It must have been Per, who ran."),
    (Exact([]), "anything"),
]


@pytest.mark.parametrize(("spec", "answer"), WRONG)
def test_a_wrong_answer_fails(spec: Exact, answer: str) -> None:
    verdict = check(spec, answer)
    assert verdict.score == 0.0, verdict.why
