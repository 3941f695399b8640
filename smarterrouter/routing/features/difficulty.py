"""How hard a prompt is, from 0 (trivial) to 1 (expert); decides nothing about its group.

A logistic sum of named terms: what its group is worth on its own, how long it is, how many
conditions it sets, and words that only hard or only easy prompts use. The score says how
much a stronger model is worth here, not how long the answer is.
"""

from __future__ import annotations

import math
import re

from smarterrouter.domain.decision import Difficulty
from smarterrouter.routing.features.reading import Reading

EASY_BELOW = 0.35
HARD_FROM = 0.62

# Log odds of a task of this kind with an ordinary length and no special words.
BASE: dict[str, float] = {
    "code_write": -0.1,
    "code_read": -0.1,
    "data_query": -0.45,
    "math": -0.25,
    "logic": 0.25,
    "planning": -0.1,
    "knowledge": -0.75,
    "advice": -0.7,
    "summarising": -0.8,
    "extraction": -0.9,
    "translation": -0.8,
    "formatting": -1.0,
    "writing": -0.5,
    "roleplay": -0.75,
}
ORDINARY_WORDS = 30
PER_DOUBLING = 0.3
SHORTEST, LONGEST = -1.1, 1.3
PER_CONDITION, MOST_CONDITIONS = 0.17, 7
PER_HARD_WORD, MOST_HARD_WORDS = 0.6, 4
PER_EASY_WORD, MOST_EASY_WORDS = -0.7, 2
PER_QUANTITY, MOST_QUANTITIES = 0.09, 9
PER_BRANCH, MOST_BRANCHES = 0.11, 8
FEW_WORDS = 12
PLAIN_QUESTION = -1.1
GREETING = -2.6

_HARD = re.compile(
    r"\b(?:prov(?:e|es|ing)\b(?! to be)|proofs?\b|theorem|lemma|rigorous|concurren\w+|thread.?safe"
    r"|lock.?free|mutex|deadlock|race condition|distributed|consensus|fault.toleran\w+|scalab\w+"
    r"|optimi[sz](?:e|es|ed|ation|er)\b|complexity|o\(\w|dynamic programming|backtracking|np-?\w+"
    r"|compiler|kernel|interpreter|garbage collect\w*|memory leak|undefined behaviou?r|lifetimes?\b"
    r"|simd|cuda|shader|cryptograph\w*|zero.knowledge|asymptotic|amortized|invarian\w+|recursi\w+"
    r"|eigen\w+|integral|differential|stochastic|bayesian|manifold|topolog\w+|converge\w*|induction"
    r"|quantum|general relativity|derive\b|derivation|trade.?offs?|architect\w+|end.to.end"
    r"|multi.(?:step|tenant|region|thread\w*)|zero.downtime|migrat\w+|real.?time|high.availability"
    r"|state machine|segfault|intermittent\w*|production.(?:grade|ready)|formal\w* verif\w+"
    r"|in (?:great )?detail|comprehensive|in.depth|critically|nuanced|implications|sonnet|villanelle"
    r"|iambic|sestina|counterexample|knaves?\b|optimal(?:ly)?|minimi[sz]e|maximi[sz]e|adversarial"
    r"|neural network|transformer|reinforcement|compute shader|volatile|parser|raft|b-?trees?\b"
    r"|beweis\w*|démontre\w*|demuestra|nebenläufig\w*|verteilt\w*)|证明|并发|分布式|докажи|оптимиз",
    re.IGNORECASE,
)
_EASY = re.compile(
    r"\b(?:simple|simplest|basic|beginners?|easy|quick|quickly|hello world|short|briefly|one word"
    r"|one sentence|single sentence|like i'?m (?:5|five)|just|einfach\w*|kurz\w*|simplement|court"
    r"|sencill\w+|breve\w*|yes or no|uppercase|lowercase|alphabetical\w*)\b|简单|简短|кратк|прост",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"\b(?:must(?: not)?|should(?: not|n't)?|without|except|unless|exactly|at (?:least|most)"
    r"|no more than|no less than|only if|only|ensure|make sure|avoid|never|always|while also"
    r"|as well as|given that|such that|so that|subject to|each of|also|handle|support\w*"
    r"|followed by|finally|ohne|mindestens|genau|sans|au moins|sin|además)\b"
    r"|^[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t]|必须|不能|至少|должн",
    re.IGNORECASE | re.MULTILINE,
)
_QUANTITY = re.compile(
    r"\d+|\b(?:half|twice|third|quarter|double|triple|ratio|percent|average|remain\w+|every|than"
    r"|fewer|if|after|before|then|times|left|rest)\b|%",
    re.IGNORECASE,
)
_BRANCH = re.compile(
    r"\b(?:for|while|if|elif|except|lambda|yield|await|async|match|switch|goto|unsafe|break"
    r"|continue)\b|\[[^\]\n]{0,20}:[^\]\n]{0,20}\]"
)
_GREETING = re.compile(
    r"\W*(?:hi|hello|hey|yo|thanks|thank you|thx|good (?:morning|evening|night)|bye|ok|okay|test"
    r"|ping|how are you|what'?s up|hallo|guten (?:tag|morgen)|bonjour|salut|merci|danke|hola"
    r"|gracias|привет|спасибо|你好|谢谢|こんにちは|안녕)[\W_]*"
    r"(?:there|again|everyone|all|you|how are you(?: doing)?(?: today)?|so much|a lot)?\W*\Z",
    re.IGNORECASE,
)
_PLAIN_QUESTIONS = frozenset(("opening: explain", "opening: bare quantity", "fact question"))
# Their material is long for every model alike: length makes them harder only by half.
_ON_MATERIAL = frozenset(("summarising", "extraction", "translation", "formatting"))


def level(score: float) -> Difficulty:
    """The word for a score: easy below ``EASY_BELOW``, hard from ``HARD_FROM``."""
    if score < EASY_BELOW:
        return Difficulty.EASY
    return Difficulty.HARD if score >= HARD_FROM else Difficulty.MEDIUM


def score(reading: Reading, group: str) -> float:
    """Between 0 and 1, both excluded."""
    odds = sum(value for _, value in terms(reading, group))
    return 1 / (1 + math.exp(-odds))


def terms(reading: Reading, group: str) -> tuple[tuple[str, float], ...]:
    """The addends of the log odds, each with its name."""
    text = reading.text
    return (
        (group, BASE[group]),
        ("length", _length(reading, group)),
        ("conditions", PER_CONDITION * _count(_CONDITION, text, MOST_CONDITIONS)),
        ("hard words", PER_HARD_WORD * _distinct(_HARD, text, MOST_HARD_WORDS)),
        ("easy words", PER_EASY_WORD * _distinct(_EASY, text[:400], MOST_EASY_WORDS)),
        ("inner workings", _inner(text, group)),
        ("plain question", PLAIN_QUESTION * _is_plain_question(reading, group)),
        ("greeting", GREETING * (len(text) < 60 and _GREETING.match(text) is not None)),
    )


def _length(reading: Reading, group: str) -> float:
    words = (
        max(reading.words, len(reading.text) / 12, 1) * reading.length / max(len(reading.text), 1)
    )
    per_doubling = PER_DOUBLING / 2 if group in _ON_MATERIAL else PER_DOUBLING
    return min(max(per_doubling * math.log2(words / ORDINARY_WORDS), SHORTEST), LONGEST)


def _inner(text: str, group: str) -> float:
    if group == "math":
        return PER_QUANTITY * (_count(_QUANTITY, text, 2 * MOST_QUANTITIES) - 3)
    if group == "code_read":
        return PER_BRANCH * _count(_BRANCH, text, MOST_BRANCHES)
    return 0.0


def _is_plain_question(reading: Reading, group: str) -> bool:
    plain = any(name in _PLAIN_QUESTIONS for name in reading.found)
    return plain and reading.words <= FEW_WORDS and group in ("knowledge", "math", "translation")


def _count(pattern: re.Pattern[str], text: str, most: int) -> int:
    times = 0
    for _ in pattern.finditer(text):
        times += 1
        if times == most:
            break
    return times


def _distinct(pattern: re.Pattern[str], text: str, most: int) -> int:
    seen: set[str] = set()
    for match in pattern.finditer(text):
        seen.add(match[0].lower())
        if len(seen) == most:
            break
    return len(seen)
