"""What a prompt is taken for, how hard, and how long; every prompt here is our own."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarterrouter.domain.chat import Message
from smarterrouter.domain.decision import Difficulty
from smarterrouter.domain.models import Capability
from smarterrouter.routing.features import (
    EASY_BELOW,
    GROUPS,
    HARD_FROM,
    answer_tokens,
    classify,
    difficulty,
    estimate_tokens,
    features,
)
from smarterrouter.routing.features.cues import BIAS, FOREIGN, LEXICON, OPENING
from smarterrouter.routing.features.grading import BASE
from smarterrouter.routing.features.shapes import SHAPES
from smarterrouter.routing.features.tokens import ANSWER_TOKENS, ECHO

CLEAR: list[tuple[str, str]] = [
    ("code_write", "Write a Python function that merges two sorted lists."),
    ("code_write", "implement an LRU cache in rust, no external crates"),
    ("code_write", "I need a small Flask app with one endpoint that returns the current time"),
    ("code_write", "react component for a star rating widget, typescript please"),
    ("code_write", "Schreibe eine Python-Funktion, die Primzahlen bis n ausgibt."),
    ("code_write", "Translate this to Go:\n\ndef add(a, b):\n    return a + b\n"),
    ("code_write", "build me a tic-tac-toe game in C# with a simple console interface"),
    ("code_write", "用Python写一个函数 统计文本里每个单词出现的次数"),
    (
        "code_read",
        "Why does this crash?\n```c\nint main() {\n  char *p = 0;\n  *p = 'a';\n  return 0;\n}```",
    ),
    (
        "code_read",
        'Traceback (most recent call last):\n  File "run.py", line 9, in <module>\n'
        "    total += row['price']\nTypeError: unsupported operand type(s) for +=\n\nwhat's wrong?",
    ),
    ("code_read", "What does this code print?\n\nx = [1, 2, 3]\nprint(x[::-1])\n"),
    ("code_read", "explain this code line by line:\n\nfor i in range(3):\n    print(i ** 2)\n"),
    (
        "code_read",
        "Can you review this function?\n\nfunction toCents(v) {\n  return v * 100;\n}\n",
    ),
    ("code_read", "my code hangs with a deadlock, two threads wait on the same mutex. help debug"),
    ("data_query", "SQL to get the three best customers per region from orders(id, region, total)"),
    ("data_query", "regex that matches a German licence plate"),
    ("data_query", "bash one-liner: delete all .tmp files older than 7 days"),
    ("data_query", "How do I undo the last git commit but keep the changes? just the git command"),
    ("data_query", "Excel formula to sum column B where column A says 'paid'"),
    ("data_query", "find the largest directories under /var with du"),
    ("math", "A train leaves at 9:40 and arrives at 13:05. How many minutes is the ride?"),
    ("math", "Solve 3x^2 - 12x + 9 = 0."),
    ("math", "Prove that the sum of two odd numbers is even."),
    ("math", "Compute the integral of x * e^x from 0 to 1."),
    (
        "math",
        "Mia buys 4 notebooks at $3 each and 2 pens at half that price. How much does she pay?",
    ),
    ("math", "Berechne die Ableitung von f(x) = 3x^2 + 2x."),
    (
        "logic",
        "Three friends each own one pet. Ann has no cat. Ben is allergic to the dog's owner. "
        "Who owns the parrot? Deduce it.",
    ),
    ("logic", "Here is a riddle: I have cities but no houses. What am I?"),
    ("logic", "What comes next in the sequence: 2, 6, 12, 20, ...?"),
    (
        "logic",
        "On an island knights always tell the truth and knaves lie. A says: we are both knaves.",
    ),
    (
        "logic",
        "All bloops are razzies. No razzies are green. Can we conclude that no bloop is green?",
    ),
    ("planning", "Plan a 4-day trip to Lisbon with two kids and a small budget"),
    ("planning", "Create a 12-week training plan for a first half marathon"),
    ("planning", "project roadmap for moving our office to a new building, with milestones"),
    ("planning", "Give me a weekly meal plan for a vegetarian, with a shopping list"),
    ("planning", "Erstelle einen Zeitplan für meinen Umzug in drei Wochen."),
    ("knowledge", "What is the capital of Mongolia?"),
    ("knowledge", "who wrote the brothers karamazov"),
    ("knowledge", "Explain the difference between a virus and a bacterium."),
    ("knowledge", "Why is the sky blue?"),
    ("knowledge", "Was ist der Unterschied zwischen Wetter und Klima?"),
    ("knowledge", "Что такое фотосинтез?"),
    ("advice", "Should I take the job offer with less salary but a shorter commute?"),
    ("advice", "I can't sleep and feel anxious before exams, any tips?"),
    ("advice", "how do i tell my landlord that the heating is broken without sounding rude"),
    ("advice", "Can you recommend a good beginner camera? My budget is small."),
    (
        "summarising",
        "tl;dr this: The council met on Tuesday and talked about the bridge for hours.",
    ),
    ("summarising", "Summarize the following article in three bullet points:\n\nThe harbour ..."),
    ("summarising", "Fasse den folgenden Text in zwei Sätzen zusammen: Gestern wurde im Rat ..."),
    ("summarising", "请总结下面这段文字: 昨天市政府宣布了新的交通计划。"),
    ("extraction", "Extract all dates and names from this email: Hi Jo, let's meet Rafa on 4 May."),
    ("extraction", "Classify the sentiment as positive, negative or neutral: 'The soup was cold.'"),
    ("extraction", "Identify the named entities in the text: Nadia flew from Oslo to Porto."),
    ("translation", "Translate into French: Where can I buy a ticket?"),
    ("translation", "how do you say 'good luck' in Japanese"),
    ("translation", "Übersetze ins Englische: Der Zug hat Verspätung."),
    ("translation", "Переведи на английский: Сегодня очень холодно."),
    ("translation", "把这句话翻译成英文: 今天下雨了"),
    ("formatting", "Turn this into a markdown table: apples 3, pears 5, plums 9"),
    ("formatting", "convert to JSON: name=Ada, age=36, city=London"),
    ("formatting", "Sort these alphabetically: walnut, almond, cashew, pecan"),
    ("writing", "Write a haiku about a rusty bicycle."),
    ("writing", "Make this email sound more polite: send me the files today."),
    ("writing", "a short story about a lighthouse keeper who is afraid of the dark"),
    ("writing", "Slogan ideas for a bakery that only sells rye bread"),
    ("writing", "Écris un poème sur la pluie à Brest."),
    ("writing", "Draft a cover letter for a junior nurse position"),
    ("roleplay", "You are Captain Nemo. Greet me as I come aboard."),
    ("roleplay", "Pretend to be a grumpy innkeeper and answer my questions in character."),
    ("roleplay", "Let's play a text adventure, you are the dungeon master"),
]

EVERYDAY: list[tuple[str, str]] = [
    ("math", "what's 17% of 2,450?"),
    ("code_write", "make a discord bot that posts a cat picture every morning"),
    ("code_write", "how do I debounce an input handler in vue 3?"),
    ("code_write", "Give me a C program that counts vowels in a file"),
    ("code_write", "quick sort, but iterative, java"),
    ("code_write", "add retry with exponential backoff to my axios client"),
    ("code_read", "cannot borrow `list` as mutable because it is also borrowed as immutable"),
    ("code_read", "is there a race here?\n\nif (!cache[key]) {\n  cache[key] = load(key);\n}\n"),
    ("code_read", "npm ERR! code ERESOLVE unable to resolve dependency tree, how to solve"),
    ("data_query", "show me all users who have not logged in for 90 days, postgres"),
    ("data_query", "list every process listening on port 8080"),
    ("data_query", "awk: print the second column when the first is > 10"),
    ("math", "If 5 painters need 6 days for a house, how long do 3 painters take?"),
    ("math", "Find the eigenvalues of [[2, 1], [1, 2]]"),
    ("math", "A shirt costs 40 euros after a 20% discount. What was the old price?"),
    ("math", "probability of at least one six in four rolls"),
    ("logic", "Tom is taller than Eva, Eva is taller than Jo. Who is the shortest?"),
    ("logic", "You have a 3 litre and a 5 litre jug. Measure exactly 4 litres."),
    (
        "logic",
        "If some artists are teachers and all teachers are patient, are some artists patient?",
    ),
    ("logic", "A man pushes his car to a hotel and loses his fortune. What happened?"),
    ("planning", "I have 90 minutes of study time a day until my exam in June, organise it for me"),
    ("planning", "outline the steps to open a small cafe, with deadlines"),
    ("planning", "weekend in Prague, what should the schedule look like"),
    ("knowledge", "When did the Berlin Wall fall?"),
    ("knowledge", "How does a heat pump work?"),
    ("knowledge", "name three moons of Jupiter"),
    ("knowledge", "difference between TCP and UDP"),
    ("advice", "my cat keeps scratching the sofa, what can I do"),
    ("advice", "Is it better to lease or to buy an electric car?"),
    ("advice", "I feel stuck in my career after ten years as an accountant."),
    ("summarising", "What are the key points of this text? The mayor said on Monday that ..."),
    ("summarising", "Give me the gist of the meeting notes below.\n\nAnna: we ship in May ..."),
    ("extraction", "List the ingredients mentioned: we fried onions, then added rice and saffron."),
    ("extraction", "Is this message spam or not? 'You won a free cruise, click here'"),
    ("extraction", "Return only the invoice number from: Invoice INV-2231, due 3 March, 80 EUR"),
    ("translation", "What does 'Feierabend' mean in English?"),
    ("translation", "Say 'I am allergic to nuts' in Thai"),
    ("translation", "traduce al inglés: el gato duerme en la ventana"),
    ("formatting", "Make all headings title case: the end of summer / a new start"),
    ("formatting", "rewrite these dates as ISO 8601: 3/4/2021, 12 May 1999"),
    ("writing", "wedding toast for my brother, funny but warm"),
    ("writing", "Come up with a name for a podcast about old maps"),
    ("writing", "Continue: The door opened and nobody was there."),
    ("writing", "Escribe un cuento corto sobre un faro abandonado."),
    ("roleplay", "Act like a medieval knight who has discovered a smartphone"),
    ("roleplay", "From now on you're Zorg, an alien ambassador. What do you think of Earth?"),
    ("roleplay", "be my strict piano teacher, I just played a wrong note"),
]
EVERYDAY_ACCURACY = 0.85

# Written once and never used to choose a cue: what they score is what strangers will see.
FRESH: list[tuple[str, str]] = [
    ("code_write", "Write a Kotlin extension that pads a string on both sides."),
    ("code_write", "simple snake game with pygame"),
    ("code_write", "create a REST endpoint in express that uploads a picture to s3"),
    ("code_write", "unit tests for a function that parses phone numbers"),
    ("code_write", "I want a script which renames my photos by the date they were taken"),
    ("code_write", "Écris une fonction JavaScript qui inverse une liste chaînée."),
    (
        "code_read",
        "Is this loop O(n) or O(n^2)?\n\nfor a in xs:\n    if a in ys:\n        n += 1\n",
    ),
    ("code_read", "getting 'undefined is not a function' when I click the save button"),
    (
        "code_read",
        "what is this decorator doing?\n\n@cache\ndef area(r):\n    return 3.14 * r * r\n",
    ),
    ("code_read", "docker container exits with code 137 right after start, why?"),
    ("data_query", "SELECT with a running total per month, mysql 8"),
    ("data_query", "replace all tabs by four spaces in every .py file with sed"),
    ("data_query", "cron line for every weekday at half past six"),
    ("data_query", "average order value by country, table is sales(country, amount)"),
    ("math", "How many litres fit into a tank of 2 m by 1.5 m by 80 cm?"),
    ("math", "differentiate ln(x^2 + 1)"),
    ("math", "Lena is twice as old as Paul was 6 years ago. Paul is 20. How old is Lena?"),
    ("math", "convert 72 fahrenheit to celsius"),
    ("math", "what is the least common multiple of 12 and 18"),
    ("math", "Петя нашёл 5 яблок, потом отдал 2. Сколько осталось?"),
    (
        "logic",
        "Four people must cross a bridge at night with one torch. How do they do it fastest?",
    ),
    ("logic", "Which word does not belong: oak, birch, tulip, maple? Give your reasoning."),
    ("logic", "Exactly one of these three statements is true. Which one?"),
    ("logic", "finger is to hand as leaf is to ?"),
    ("planning", "Help me plan a surprise birthday party for 20 guests"),
    ("planning", "learning path to become a data analyst within six months"),
    ("planning", "Break our website relaunch into phases and tasks for a team of three"),
    ("planning", "帮我安排一个周末北京行程"),
    ("knowledge", "What causes tides?"),
    ("knowledge", "Which river runs through Budapest?"),
    ("knowledge", "tell me about the Hanseatic League"),
    ("knowledge", "Explain inflation to a ten year old"),
    ("knowledge", "¿Quién pintó Las Meninas?"),
    ("advice", "What should I say when my manager asks why I am leaving?"),
    ("advice", "best way to get rid of fruit flies"),
    ("advice", "my knee hurts after running, should I see a doctor"),
    ("advice", "Soll ich lieber mieten oder kaufen?"),
    ("summarising", "In one sentence, what is this article about? The port of Rotterdam ..."),
    ("summarising", "condense the report below to 50 words"),
    ("summarising", "Résume ce texte : Le conseil municipal a voté hier ..."),
    ("extraction", "Pull out every phone number in the text below: call 555-0100 or 555-0199"),
    (
        "extraction",
        "According to the passage, why did Mina leave? Passage: Mina left as it rained.",
    ),
    ("extraction", "Label each line as question or statement: 'Are you in?' 'We leave at six.'"),
    ("translation", "Please translate the following menu from Italian to English: pane, vino"),
    ("translation", "'see you tomorrow' in portuguese?"),
    ("formatting", "Put these names into a comma separated list: Ida Tom Lea"),
    ("formatting", "make this yaml valid json: port: 80, host: local"),
    ("formatting", "Rewrite the list in alphabetical order and remove duplicates: pear, fig, pear"),
    ("writing", "Limerick about a programmer who never sleeps"),
    ("writing", "Write a LinkedIn post announcing my new role as head nurse."),
    ("writing", "Help me write an apology to my neighbour for the noise"),
    ("writing", "Describe a storm at sea from the view of a sailor, in a gothic style"),
    ("writing", "写一首关于秋天的诗"),
    ("roleplay", "You're a detective in 1920s Chicago. I walk into your office."),
    ("roleplay", "I want you to act as a job interviewer. Ask me one question at a time."),
    ("roleplay", "Stay in character as a dragon who guards a library. Who dares to enter?"),
]
FRESH_GROUP_ACCURACY = 0.7
FRESH_CATEGORY_ACCURACY = 0.8


def _said(*texts: str, system: str | None = None) -> list[Message]:
    messages = [] if system is None else [Message("system", system)]
    for text in texts[:-1]:
        messages += [Message("user", text), Message("assistant", "Certainly.")]
    return [*messages, Message("user", texts[-1])]


@pytest.mark.parametrize(("group", "prompt"), CLEAR)
def test_a_clear_prompt_gets_its_group(group: str, prompt: str) -> None:
    assert classify(prompt) == group


def test_prompts_that_chose_no_cue_are_mostly_recognised() -> None:
    got = [(group, classify(prompt)) for group, prompt in FRESH]
    groups = sum(want == is_ for want, is_ in got) / len(got)
    categories = sum(GROUPS[want] == GROUPS[is_] for want, is_ in got) / len(got)
    assert groups >= FRESH_GROUP_ACCURACY
    assert categories >= FRESH_CATEGORY_ACCURACY


def test_everyday_prompts_are_recognised() -> None:
    right = sum(classify(prompt) == group for group, prompt in EVERYDAY)
    assert right / len(EVERYDAY) >= EVERYDAY_ACCURACY


@pytest.mark.parametrize(
    ("topic", "follow_up", "group"),
    [
        ("Write a Python function that merges two sorted lists.", "and now in Rust?", "code_write"),
        ("Write a poem about the harbour at night.", "make it shorter", "writing"),
        ("Plan a 4-day trip to Lisbon", "what if it rains?", "planning"),
        ("Solve 3x^2 - 12x + 9 = 0.", "are you sure?", "math"),
    ],
)
def test_a_short_follow_up_inherits_the_topic(topic: str, follow_up: str, group: str) -> None:
    assert features(_said(topic, follow_up)).group == group


def test_a_long_new_request_ignores_the_earlier_topic() -> None:
    request = "Write a short story about two lighthouse keepers who have never met each other."
    assert features(_said("Fix this Python traceback: KeyError 'a'", request)).group == "writing"


def test_a_follow_up_keeps_most_of_the_difficulty() -> None:
    topic = "Prove that there are infinitely many primes congruent to 3 modulo 4."
    alone = features(_said("and for 5?")).difficulty_score
    assert features(_said(topic, "and for 5?")).difficulty_score > alone


def test_a_character_in_the_system_prompt_colours_small_talk() -> None:
    system = "You are Captain Nemo. Stay in character and speak like a sea captain."
    assert features(_said("Good morning!", system=system)).group == "roleplay"


def test_a_helpful_assistant_is_no_role() -> None:
    system = "You are a helpful assistant."
    assert features(_said("What is the capital of Mongolia?", system=system)).group == "knowledge"


@pytest.mark.parametrize(
    "prompt", ["hi", "thanks!", "Hello, how are you?", "What is the capital of Mongolia?"]
)
def test_trivial_prompts_are_easy(prompt: str) -> None:
    found = features(_said(prompt))
    assert found.difficulty is Difficulty.EASY
    assert found.difficulty_score < 0.15


@pytest.mark.parametrize(
    "prompt",
    [
        "Implement a lock-free concurrent queue in C++, prove that it is linearizable, and make"
        " sure that it never leaks memory with at least 64 threads.",
        "Design a multi-region, fault-tolerant payment system. It must handle bursts, avoid vendor"
        " lock-in and support zero-downtime migrations. Discuss the trade-offs of each choice.",
        "Prove that there are infinitely many primes congruent to 3 modulo 4, and generalise the"
        " argument as far as it goes. Give a counterexample where it must fail.",
    ],
)
def test_proofs_and_many_conditions_are_hard(prompt: str) -> None:
    assert features(_said(prompt)).difficulty is Difficulty.HARD


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_conditions_never_make_a_task_easier(group: str) -> None:
    task = "Take the text about the harbour and treat it as we said yesterday."
    more = f"{task} It must be exact."
    most = f"{more} It must never be vague, and it should avoid at least two errors."
    assert difficulty(task, group) < difficulty(more, group) < difficulty(most, group)


def test_the_levels_meet_at_the_named_thresholds() -> None:
    assert 0 < EASY_BELOW < HARD_FROM < 1


def test_needs_and_the_cap_are_passed_on() -> None:
    needs = frozenset({Capability.VISION})
    found = features(_said("Write a poem."), needs=needs, max_tokens=16)
    assert found.needs == needs
    assert found.max_tokens == 16
    assert found.answer_tokens == 16


def test_no_message_is_answered_all_the_same() -> None:
    found = features([])
    assert found.group in GROUPS
    assert found.prompt_tokens == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The ferry leaves the island every morning at seven.", 10),
        ("def area(r):\n    return 3.14159 * r ** 2\n", 18),
        ("Сегодня в городе очень холодно и ветрено.", 12),
        ("今天的天气很冷 请多穿衣服。", 10),
        ("1234567890", 10),
    ],
)
def test_a_token_estimate_errs_upwards_but_not_by_much(text: str, tokens: int) -> None:
    assert tokens <= estimate_tokens(text) <= 2 * tokens + 2


def test_a_sampled_estimate_agrees_with_a_counted_one() -> None:
    part = "Der Fährmann wartet. 今天很冷。 x = 42;\n" * 40
    assert estimate_tokens(part * 50) == pytest.approx(50 * estimate_tokens(part), rel=0.1)


def test_more_text_never_takes_fewer_tokens() -> None:
    sizes = [estimate_tokens("a stone in the sea " * count) for count in (0, 1, 10, 100, 10_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0


def test_images_take_tokens() -> None:
    plain, pictured = Message("user", "What is this?"), Message("user", "What is this?", images=1)
    assert features([pictured]).prompt_tokens > features([plain]).prompt_tokens


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_harder_answers_are_longer_and_the_cap_holds(group: str) -> None:
    easy, hard = answer_tokens(group, 0.1), answer_tokens(group, 0.9)
    assert 0 < easy < hard
    assert answer_tokens(group, 0.9, max_tokens=5) == 5


def test_every_table_names_only_known_groups_and_every_group() -> None:
    cues = [*LEXICON, *OPENING, *FOREIGN]
    named = {group for cue in cues for group in cue.weights}
    named |= {group for shape in SHAPES for group in shape.weights} | set(BIAS) | set(ECHO)
    assert named == set(GROUPS)
    assert set(BASE) == set(ANSWER_TOKENS) == set(GROUPS)


def test_cue_names_are_unique_within_their_table() -> None:
    for table in (LEXICON, OPENING, FOREIGN, SHAPES):
        names = [entry.name for entry in table]
        assert len(names) == len(set(names))


_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=4000)


@settings(max_examples=150)
@given(_ANY_TEXT)
def test_any_text_gets_a_group_a_difficulty_and_a_size(text: str) -> None:
    found = features(_said(text), max_tokens=100)
    assert found.group in GROUPS
    assert found.category == GROUPS[found.group]
    assert 0 <= found.difficulty_score <= 1
    assert found.prompt_tokens > 0
    assert 0 < found.answer_tokens <= 100


@settings(max_examples=50)
@given(st.lists(_ANY_TEXT.map(lambda text: text[:90]), min_size=1, max_size=6))
def test_any_conversation_is_read(texts: list[str]) -> None:
    assert features(_said(*texts, system=texts[0])).group in GROUPS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0" * 50,
        "\ud800 lone surrogate \udfff",
        "x" * 500_000,
        "\n" * 100_000,
        "$" + "^" * 100_000,
        "how many " * 20_000,
        "日本語" * 50_000,
        "🙂" * 50_000,
        "if all " * 20_000,
        " at " * 50_000,
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_strange_and_huge_texts_are_read_quickly(text: str) -> None:
    assert _seconds(lambda: features(_said(text))) < 0.05


def _seconds(call: Callable[[], object], repeat: int = 5) -> float:
    """The best of several runs, so that a busy machine does not fail a test."""
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _slowness() -> float:
    """How many times slower than a desktop this machine counts just now, at least 1."""

    def count() -> int:
        total = 0
        for number in range(20_000):
            total += number
        return total

    return max(1.0, _seconds(count, repeat=20) / DESKTOP_COUNT_S)


DESKTOP_COUNT_S = 0.8e-3


@pytest.mark.bench
def test_an_ordinary_prompt_is_read_within_its_budget() -> None:
    words = "Please compare the ferry and the train for a trip with two kids and a small budget. "
    said = _said((words * 6)[:500])
    assert _seconds(lambda: features(said), repeat=200) < 150e-6 * _slowness()


@pytest.mark.bench
def test_a_huge_prompt_is_read_within_its_budget() -> None:
    said = _said("Summarise the talk below. " + "We spoke of ships, ropes and tides. " * 2800)
    assert _seconds(lambda: features(said), repeat=50) < 1e-3 * _slowness()
