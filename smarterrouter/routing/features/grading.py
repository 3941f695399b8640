"""How hard a prompt is, from 0 (trivial) to 1 (expert); decides nothing about its group.

A logistic sum of named terms: what its group is worth on its own, how long it is, how many
conditions it sets, and words that only hard or only easy prompts use. The score says how
much a stronger model is worth here, not how long the answer is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from smarterrouter.domain.decision import Difficulty
from smarterrouter.routing.features.reading import Reading, words_of

EASY_BELOW = 0.35
HARD_FROM = 0.62

# Log odds of a task of this kind with an ordinary length and no special words.
BASE: dict[str, float] = {
    "code_write": -0.1,
    "code_read": -0.1,
    "data_query": -0.45,
    "math": -0.25,
    "logic": 0.2,
    "planning": 0.05,
    "knowledge": -0.75,
    "advice": -0.45,
    "summarising": -0.6,
    "extraction": -0.7,
    "translation": -0.6,
    "formatting": -0.8,
    "writing": -0.3,
    "roleplay": -0.5,
}
ORDINARY_WORDS = 30
PER_DOUBLING = 0.3
SHORTEST, LONGEST = -0.6, 1.5
PER_CONDITION, MOST_CONDITIONS = 0.17, 7
PER_HARD_WORD, MOST_HARD_WORDS = 0.65, 4
PER_EASY_WORD, MOST_EASY_WORDS = -0.7, 2
PER_QUANTITY, MOST_QUANTITIES, FREE_QUANTITIES = 0.09, 18, 3
PER_BRANCH, MOST_BRANCHES = 0.11, 8
FEW_WORDS = 12
PLAIN_QUESTION = -1.3
GREETING = -2.6
LONGEST_GREETING = 60


def _words(spaced: str) -> frozenset[str]:
    return frozenset(spaced.split())


_Phrases = Mapping[str, Sequence[str]]


def _phrases(*phrases: str) -> _Phrases:
    """Each phrase under its first word; under "" those of scripts that are not ASCII."""
    found: dict[str, list[str]] = {"": []}
    for phrase in phrases:
        first = words_of(phrase)[0] if phrase.isascii() else ""
        found.setdefault(first, []).append(phrase)
    return found


_HARD = _words(
    "prove proof proofs theorem lemma rigorous rigorously concurrent concurrency lockfree "
    "mutex deadlock deadlocks distributed consensus fault tolerant scalable scalability "
    "optimize optimise optimized optimised optimization optimisation complexity backtracking "
    "compiler kernel interpreter allocator lifetime lifetimes simd cuda shader cryptographic "
    "cryptography asymptotic amortized invariant invariants recursive recursion eigenvalue "
    "eigenvalues integral differential stochastic bayesian manifold topology topological "
    "converge converges convergence induction quantum relativity derive derivation tradeoff "
    "tradeoffs architecture architect multithreaded tenant region downtime migrate migration "
    "realtime segfault intermittently intermittent detail detailed comprehensive critically "
    "nuanced implications villanelle sestina iambic sonnet counterexample knave knaves "
    "optimal optimally minimize minimise maximize maximise adversarial neural transformer "
    "reinforcement volatile parser raft btree tensor async asynchronous idempotent sharding "
    "replication parallel parallelism synchronization undefined unsafe regression econometric "
    "legal liability jurisdiction thesis monograph polynomial modulo combinatorial np halting "
    "isomorphism homomorphism measurable uniformly beweise beweis démontre démontrer "
    "demuestra nebenläufig verteiltes optimiere"
)
_HARD_PHRASES = _phrases(
    "race condition", "dynamic programming", "garbage collect", "memory leak", "thread safe",
    "thread-safe", "lock-free", "end-to-end", "trade-off", "zero-downtime", "real-time",
    "undefined behavi", "step by step", "in depth", "in-depth", "fault-toleran", "state machine",
    "production-", "iambic pentameter", "o(n", "o(log", "show that", "if and only if",
    "证明", "并发", "分布式", "докажи", "оптимиз", "证",
)  # fmt: skip
_EASY = _words(
    "simple simplest basic beginner beginners easy quick quickly short shortest briefly brief "
    "just uppercase lowercase alphabetical alphabetically einfach einfache einfaches kurz "
    "kurze kurzes simplement court courte sencillo sencilla breve"
)
_EASY_PHRASES = _phrases(
    "hello world",
    "one word",
    "one sentence",
    "single sentence",
    "yes or no",
    "i'm 5",
    "i'm five",
    "im 5",
    "简单",
    "简短",
    "кратк",
    "прост",
)
_CONDITION = _words(
    "must should shouldnt without except unless exactly least most only ensure avoid never "
    "always given such subject also handle handles support supports supporting followed "
    "finally neither both each respectively including include constraint constraints "
    "requirements ohne mindestens genau sans moins sin además muss soll doit debe"
)
_QUANTITY = _words(
    "half twice third quarter double triple ratio percent average remaining remainder every "
    "than fewer if after before then times left rest more less total difference until"
)
_BRANCH = _words(
    "for while if elif else except lambda yield await async match switch goto unsafe break "
    "continue sorted replace join split enumerate range pop insert reverse zip isalpha find "
    "rfind"
)
_GREETING = re.compile(
    r"\W*(?:hi|hello|hey|yo|thanks|thank you|thx|good (?:morning|evening|night)|bye|ok|okay|test"
    r"|ping|how are you|what'?s up|hallo|guten (?:tag|morgen)|bonjour|salut|merci|danke|hola"
    r"|gracias|привет|спасибо|你好|谢谢|こんにちは|안녕)[\W_]*"
    r"(?:there|again|everyone|all|you|how are you(?: doing)?(?: today)?|so much|a lot)?\W*\Z",
    re.IGNORECASE,
)
_PLAIN_QUESTIONS = frozenset(("opening: ask a fact", "opening: bare quantity"))
# Their material is long for every model alike: length makes them harder only by half.
_PLAIN_GROUPS = frozenset(("knowledge", "math", "translation"))
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
    lowered = reading.text.lower()
    words = set(reading.words)
    hard = len(words & _HARD) + _among(_HARD_PHRASES, words, lowered)
    easy = len(words & _EASY) + _among(_EASY_PHRASES, words, lowered)
    conditions = _count(_CONDITION, reading.words) + reading.bullets
    greeting = len(lowered) < LONGEST_GREETING and _GREETING.match(lowered) is not None
    return (
        (group, BASE[group]),
        ("length", _length(reading, group)),
        ("conditions", PER_CONDITION * min(conditions, MOST_CONDITIONS)),
        ("hard words", PER_HARD_WORD * min(hard, MOST_HARD_WORDS)),
        ("easy words", PER_EASY_WORD * min(easy, MOST_EASY_WORDS)),
        ("inner workings", _inner(reading, group)),
        ("plain question", PLAIN_QUESTION * _is_plain_question(reading, group)),
        ("greeting", GREETING * greeting),
    )


def _length(reading: Reading, group: str) -> float:
    """By words, or by characters where a script does not part its words."""
    unspaced = 1 if reading.text.isascii() else len(reading.text) / 12
    part = len(reading.text) / max(reading.length, 1)
    words = max(len(reading.words), unspaced, 1) / max(part, 1e-9)
    per_doubling = PER_DOUBLING / 2 if group in _ON_MATERIAL else PER_DOUBLING
    return min(max(per_doubling * math.log2(words / ORDINARY_WORDS), SHORTEST), LONGEST)


def _inner(reading: Reading, group: str) -> float:
    """What counts within one kind: quantities of a word problem, turns of the code shown."""
    if group == "math":
        quantities = reading.numbers + _count(_QUANTITY, reading.words)
        return PER_QUANTITY * (min(quantities, MOST_QUANTITIES) - FREE_QUANTITIES)
    if group == "code_read":
        return PER_BRANCH * min(_count(_BRANCH, reading.words), MOST_BRANCHES)
    return 0.0


def _is_plain_question(reading: Reading, group: str) -> bool:
    plain = any(name in _PLAIN_QUESTIONS for name in reading.found)
    return plain and len(reading.words) <= FEW_WORDS and group in _PLAIN_GROUPS


def _count(vocabulary: frozenset[str], words: Sequence[str]) -> int:
    return sum(map(vocabulary.__contains__, words))


def _among(phrases: _Phrases, words: set[str], lowered: str) -> int:
    """How many phrases are in the text; few need a look, as most have none of its words."""
    likely = [phrase for word in phrases.keys() & words for phrase in phrases[word]]
    if not lowered.isascii():
        likely += phrases[""]
    return len([phrase for phrase in likely if phrase in lowered])
