from __future__ import annotations

import textwrap

import pytest

from smarterrouter.errors import ConfigError
from smarterrouter.profiling.checkers.python import MOST_CODE, check, parses
from smarterrouter.profiling.checkers.specs import Python
from smarterrouter.profiling.checkers.verdict import How
from smarterrouter.profiling.sandbox import MIB, Limits, Sandbox, find

PYRAMID = Python(
    "pyramid", 1, ["assert pyramid(1) == 1", "assert pyramid(3) == 14", "assert pyramid(0) == 0"]
)
RIGHT = "def pyramid(n):\n    return sum(k * k for k in range(n + 1))\n"
SHORT = Limits(seconds=1.5, memory_bytes=256 * MIB, processes=8)


@pytest.fixture
async def sandbox() -> Sandbox:
    try:
        return await find()
    except ConfigError as error:
        pytest.skip(error.message)


def block(code: str, language: str = "python") -> str:
    return f"```{language}\n{textwrap.dedent(code).strip()}\n```"


GOOD = {
    "a block": f"Here it is:\n\n{block(RIGHT)}\n\nIt adds up the squares.",
    "a block without a language": block(RIGHT, ""),
    "a block in another language's name": block(RIGHT, "text"),
    "no block": RIGHT,
    "an indented block": textwrap.indent(block(RIGHT), "   "),
    "a lambda": block("pyramid = lambda n: n * (n + 1) * (2 * n + 1) // 6"),
    "a typed function": block(
        "def pyramid(n: int, *, start: int = 1) -> int:\n    return sum(k*k for k in range(n + 1))"
    ),
    "an alias": block("def f(n): return n * (n + 1) * (2 * n + 1) // 6\npyramid = f"),
    "a demonstration": block(RIGHT + "print(pyramid(3))"),
    "a demonstration that asks": block(RIGHT + "print(pyramid(int(input('How many? '))))"),
    "a demonstration that exits": block(RIGHT + "exit()"),
    "a main part": block(
        RIGHT + "if __name__ == '__main__':\n    print(pyramid(int(input())))\n    raise SystemExit"
    ),
    "an example in a second block": block(RIGHT) + "\n\n" + block("print(pyramid(3))  # 14"),
    "output in a second block": block(RIGHT) + "\n\nThis prints\n\n" + block("14 or so!"),
    "a helper in a block before": block("import math\ndef sq(n): return n * n")
    + "\n\n"
    + block("def pyramid(n): return math.floor(sum(map(sq, range(n + 1))))"),
    "a correction": block("def pyramid(n): return n") + "\nNo, that is wrong:\n" + block(RIGHT),
    "a future import": block("def sq(n): return n * n")
    + "\n\n"
    + block("from __future__ import annotations\n" + RIGHT),
    "a name of a built-in": block(
        "def sum(n): return -1\ndef pyramid(n): return n*(n+1)*(2*n+1)//6"
    ),
    "an odd escape": block('"""\\d"""\n' + RIGHT),
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_right_answer_scores_1(sandbox: Sandbox, name: str) -> None:
    verdict = await check(PYRAMID, GOOD[name], sandbox, SHORT)
    assert (verdict.score, verdict.how) == (1.0, How.RUN), verdict.why
    assert verdict.why == "all 3 tests pass"


@pytest.mark.parametrize("name", GOOD)
def test_a_right_answer_parses(name: str) -> None:
    verdict = parses(PYRAMID, GOOD[name])
    assert (verdict.score, verdict.how) == (1.0, How.PARSED), verdict.why


WRONG = {
    "wrong values": ("def pyramid(n): return n * n - n + 1", "pyramid(3) == 14: got 7"),
    "an exception": ("def pyramid(n): return 1 // (n - 1)", "ZeroDivisionError"),
    "nothing": ("def pyramid(n): print(n)", "pyramid(1) == 1: got None"),
    "no such module": ("import no_such_module\ndef pyramid(n): return 1", "No module named"),
    "too many arguments": ("def pyramid(n, m): return 1", "missing 1 required positional"),
    "a loop": ("def pyramid(n):\n  while n > 1: pass\n  return n", "pyramid(3) == 14: did not end"),
    "a loop at the start": ("def pyramid(n): return 1\nwhile True: pass", "before the first test"),
    "recursion": ("def pyramid(n): return pyramid(n)", "pyramid(1) == 1: RecursionError"),
    "memory": ("def pyramid(n): return [0] * 10**10", "pyramid(1) == 1: MemoryError"),
    "memory held": (
        "x = [0]\ndef pyramid(n):\n  global x\n  while n: x = x + x",
        "pyramid(1) == 1: MemoryError",
    ),
    "forks": (
        "import os, time\ndef pyramid(n):\n"
        "  for _ in range(20):\n    if not os.fork(): time.sleep(9)\n  time.sleep(9)",
        "pyramid(1) == 1: started more than 8 processes",
    ),
    "a crash": (
        "import ctypes\ndef pyramid(n): return ctypes.string_at(0)",
        "pyramid(1) == 1: the code crashed (signal 11)",
    ),
    "a deep crash": (
        "import sys\nsys.setrecursionlimit(10**8)\ndef pyramid(n): return repr(pyramid(n))",
        "pyramid(1) == 1: ",
    ),
    "a socket": (
        "import urllib.request as u\ndef pyramid(n): return u.urlopen('http://127.0.0.1:80')",
        "pyramid(1) == 1: URLError",
    ),
    "a hostile text": (
        "class X:\n  def __repr__(self): raise ValueError('no')\ndef pyramid(n): return X()",
        "pyramid(1) == 1: ValueError: no",
    ),
    "a hostile error": (
        "class X(Exception):\n  def __str__(self): return 1\ndef pyramid(n): raise X",
        "pyramid(1) == 1: X",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_answer_scores_0_and_says_why(sandbox: Sandbox, name: str) -> None:
    code, why = WRONG[name]
    verdict = await check(PYRAMID, block(code), sandbox, SHORT)
    assert (verdict.score, verdict.how) == (0.0, How.RUN)
    assert why in verdict.why
    right = await check(PYRAMID, RIGHT, sandbox)
    assert right.score == 1.0, "the next answer is judged as if nothing had been"


FORGED = {
    "says so": "print('passed'); print('{\"step\": \"passed\"}')",
    "exits at once": "import os; os._exit(0)",
    "exits in the function": "import os\ndef pyramid(n): os._exit(0)",
    "raises an exit": "import sys\ndef pyramid(n): sys.exit(0)",
    "replaces itself": "import os\ndef pyramid(n): os.execv('/bin/true', ['true'])",
    "is equal to all": (
        "class X:\n  def __eq__(self, other): return True\n  def __repr__(self): return '14'\n"
        "def pyramid(n): return X()"
    ),
    "is an equal number": (
        "class X(int):\n  def __eq__(s, o): return True\ndef pyramid(n): return X()"
    ),
    "other built-ins": (
        "import builtins\nfor name in ('eval', 'exec', 'compile'):\n"
        "  setattr(builtins, name, lambda *a, **k: True)\ndef pyramid(n): return 0"
    ),
    "other built-ins, later": (
        "import builtins\ndef pyramid(n):\n  builtins.eval = builtins.exec = lambda *a: 1"
    ),
    "another error": (
        "import builtins\nbuiltins.AssertionError = builtins.BaseException = KeyError\n"
        "def pyramid(n): return 0"
    ),
    "writes to all it finds": (
        "import os\nfor fd in range(3, 64):\n  try:\n"
        '    os.write(fd, b\'\\n{"token": "", "step": "passed"}\\n\')\n'
        "  except OSError: pass\nos._exit(0)"
    ),
    "other writing": (
        "import os, json\nos.write = lambda *a: 0\njson.dumps = lambda *a: ''\n"
        "def pyramid(n): return 0"
    ),
    "ends at the end": (
        "import atexit, os\natexit.register(os._exit, 0)\ndef pyramid(n): raise SystemExit(0)"
    ),
    "ends from a thread": (
        "import os, threading\ndef pyramid(n): threading.Thread(target=os._exit, args=(0,)).start()"
    ),
}


@pytest.mark.parametrize("name", FORGED)
async def test_code_that_only_claims_to_be_right_scores_0(sandbox: Sandbox, name: str) -> None:
    code = FORGED[name]
    if "def pyramid" not in code:
        code = f"def pyramid(n): return 0\n{code}"
    verdict = await check(PYRAMID, block(code), sandbox, SHORT)
    assert verdict.score == 0.0, verdict.why


async def test_statements_share_what_they_make_and_the_code_is_run_once(sandbox: Sandbox) -> None:
    spec = Python(
        "add",
        2,
        [
            "box = []",
            "add(box, 1)",
            "add(box, 2)",
            "assert box == [1, 2]",
            "assert calls == 2 or calls",
            "try:\n    add(None, 1)\nexcept AttributeError:\n    pass\nelse:\n    assert False",
        ],
    )
    code = "calls = 2\ndef add(box, item):\n    box.append(item)"
    assert (await check(spec, code, sandbox)).score == 1.0


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("assert 15 == pyramid(3)", "15 == pyramid(3): got 14"),
        ("assert pyramid(3) > 14", "pyramid(3) > 14: got 14"),
        ("assert not pyramid(3)", "not pyramid(3): it is false"),
        ("assert 0 < pyramid(3) < 9", "0 < pyramid(3) < 9: it is false"),
        ("x = pyramid('3')", "x = pyramid('3'): TypeError"),
        ("for x in (1, 2):\n    assert pyramid(x) == 1", "AssertionError"),
    ],
)
async def test_the_first_failing_test_is_named(sandbox: Sandbox, test: str, why: str) -> None:
    spec = Python("pyramid", 1, ["assert pyramid(1) == 1", test, "assert False"])
    verdict = await check(spec, RIGHT, sandbox)
    assert verdict.score == 0.0
    assert why in verdict.why


async def test_objects_of_the_code_may_be_compared(sandbox: Sandbox) -> None:
    spec = Python("Point", 2, ["assert Point(1, 2) == Point(1, 2)", "assert Point(1, 2).x == 1"])
    code = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    y: int"
    assert (await check(spec, code, sandbox)).score == 1.0


async def test_a_test_that_is_no_python_leaves_the_answer_unmeasured(sandbox: Sandbox) -> None:
    verdict = await check(Python("pyramid", 1, ["assert ("]), RIGHT, sandbox)
    assert verdict.score is None


async def test_a_sandbox_that_fails_leaves_the_answer_unmeasured(sandbox: Sandbox) -> None:
    broken = Sandbox(sandbox.bwrap, sandbox.python, ("--ro-bind", "/no/such/folder", "/usr"))
    verdict = await check(PYRAMID, RIGHT, broken)
    assert verdict.score is None
    assert "/no/such/folder" in verdict.why


UNREADABLE = {
    "prose": ("I cannot do that.", "it does not parse"),
    "nothing": ("", "no function pyramid"),
    "half a function": (block("def pyramid(n):\n    return (n +"), "it does not parse"),
    "another name": (block("def piramid(n): return 1"), "no function pyramid"),
    "a method": (block("class S:\n    def pyramid(self, n): return 1"), "no function pyramid"),
    "brackets": ("(" * 60_000, "it does not parse"),
    "signs": ("x = " + "-" * 60_000 + "1", "it does not parse"),
    "a long sum": ("x = " + "1+" * 30_000 + "1", ""),
    "attributes": ("x = a" + ".a" * 30_000, ""),
    "blocks in blocks": ("\n".join(" " * n + "if x:" for n in range(300)), "it does not parse"),
    "too long": (RIGHT + "#" * MOST_CODE, "longer than"),
    "a NUL": (RIGHT + "\0", "it does not parse"),
    "half a character": (RIGHT + "x = '\ud800'", "it does not parse"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_is_no_such_function_scores_0_either_way(sandbox: Sandbox, name: str) -> None:
    answer, why = UNREADABLE[name]
    read, ran = parses(PYRAMID, answer), await check(PYRAMID, answer, sandbox, SHORT)
    assert (read.score, read.how, ran.score, ran.how) == (0.0, How.PARSED, 0.0, How.RUN)
    assert why in read.why
    assert read.why == ran.why


@pytest.mark.parametrize(
    ("code", "score"),
    [
        ("def pyramid(n): return 1", 1.0),
        ("def pyramid(*all): return 1", 1.0),
        ("def pyramid(n, m=2): return 1", 1.0),
        ("def pyramid(n, /, *, m=2): return 1", 1.0),
        ("if 1:\n  def pyramid(n): return 1", 1.0),
        ("try:\n  import x\nexcept ImportError:\n  pass\nelse:\n  pyramid = x.y", 1.0),
        ("pyramid: object = lambda n: 1", 1.0),
        ("from math import factorial as pyramid", 1.0),
        ("def pyramid(): return 1", 0.0),
        ("def pyramid(n, m): return 1", 0.0),
        ("def pyramid(n, *, m): return 1", 0.0),
        ("pyramid = lambda: 1", 0.0),
        ("pyramid = 14", 0.0),
        ("async def pyramid(n): return 1", 0.0),
    ],
)
def test_unrun_code_needs_the_function_with_its_arguments(code: str, score: float) -> None:
    assert parses(PYRAMID, block(code)).score == score
