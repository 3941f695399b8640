"""Python code: does it do what was asked? Run in the sandbox, or else only read.

Decides which part of an answer is the code, and whether the function in it passes its tests. Not
where code may run, nor for how long: that is ``sandbox``'s.

The tests run in one interpreter with the code, which may print, exit or redefine what it likes:
what counts comes over a channel of its own and bears a token. That withstands code which wants to
look right, not code written with this file at hand to search the interpreter's memory.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import secrets
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from smarterrouter.errors import Unavailable
from smarterrouter.profiling.checkers.reading import fenced
from smarterrouter.profiling.checkers.specs import Python
from smarterrouter.profiling.checkers.verdict import How, Verdict
from smarterrouter.profiling.sandbox import Limits, Ran, Sandbox

MOST_CODE = 64 * 1024
"""Longer code is not looked at, in characters: the parser's memory has no limit of its own."""


def parses(spec: Python, answer: str) -> Verdict:
    """1 if the answer's code is Python and its function takes the arguments it is to take."""
    found = _code(spec, answer)
    if isinstance(found, str):
        return Verdict(0.0, found, How.PARSED)
    if not any(_takes(one, spec.arguments) for one in found.makers):
        what = f"{spec.function} does not take {spec.arguments} arguments"
        return Verdict(0.0, what, How.PARSED)
    return Verdict(1.0, f"it parses and has {spec.function}", How.PARSED)


async def check(
    spec: Python, answer: str, sandbox: Sandbox, limits: Limits | None = None
) -> Verdict:
    """1 if every test passes. ``why`` names the first that does not, or what ended the code."""
    limits = limits or Limits()
    found = _code(spec, answer)
    if isinstance(found, str):
        return Verdict(0.0, found, How.RUN)
    token = secrets.token_hex()
    work = {
        "token": token,
        "code": found.texts,
        "function": spec.function,
        "tests": spec.tests,
    }
    interpreter = (sandbox.python, "-I", "-S", "-X", "utf8", "-c", _inside())
    try:
        ran = await sandbox.run(interpreter, stdin=json.dumps(work), limits=limits)
    except Unavailable as error:
        return Verdict(None, error.message, How.RUN)
    return _verdict(spec.tests, ran, _steps(ran.stdout, token), limits)


def _verdict(
    tests: Sequence[str], ran: Ran, steps: Sequence[dict[str, object]], limits: Limits
) -> Verdict:
    if not steps:
        ended = f"stopped for its {ran.stopped}" if ran.stopped else f"exit {ran.exit_code}"
        return Verdict(None, f"the tests could not be started: {ended}", How.RUN)
    last = steps[-1]
    match last.get("step"):
        case "passed":
            return Verdict(1.0, f"all {len(tests)} tests pass", How.RUN)
        case "failed":
            return Verdict(0.0, str(last.get("why")), How.RUN)
    number = last.get("test")
    at = _short(tests[number]) if isinstance(number, int) else "before the first test"
    return Verdict(0.0, f"{at}: {_ending(ran, limits)}", How.RUN)


def _ending(ran: Ran, limits: Limits) -> str:
    if ran.stopped:
        return limits.exceeded(ran.stopped)
    if ran.exit_code is not None and ran.exit_code > 128:
        return f"the code crashed (signal {ran.exit_code - 128})"
    return f"the code ended the interpreter (exit {ran.exit_code})"


def _steps(output: str, token: str) -> list[dict[str, object]]:
    """What the tests reported; lines without the token are the code's, and count for nothing."""
    steps = []
    for line in output.splitlines():
        if token in line:
            with contextlib.suppress(ValueError):  # cut off at the limit for output
                steps.append(json.loads(line))
    return steps


def _short(test: str) -> str:
    return test.removeprefix("assert ").strip()[:200]


# Which part of the answer is the code.


@dataclass(frozen=True, slots=True)
class _Code:
    """``texts`` run one after the other; ``makers`` are the statements that make the function."""

    texts: tuple[str, ...]
    makers: tuple[ast.AST, ...]


def _code(spec: Python, answer: str) -> _Code | str:
    """The last block that makes the function, after what blocks without it define.

    A string says why there is none.
    """
    blocks = fenced(answer, "python", "py", "python3") or fenced(answer) or (answer,)
    parsed = [(block, _parsed(block)) for block in map(textwrap.dedent, blocks)]
    modules = [(block, one) for block, one in parsed if isinstance(one, ast.Module)]
    if not modules:
        return next(one for _, one in parsed if isinstance(one, str))
    makers = [(block, tuple(_makers(one.body, spec.function))) for block, one in modules]
    complete = [(block, made) for block, made in makers if made]
    if not complete:
        return f"the code has no function {spec.function}"
    others = [one for (_, one), (_, made) in zip(modules, makers, strict=True) if not made]
    helpers = [_text(one) for module in others for one in module.body if isinstance(one, _DEFINES)]
    text, made = complete[-1]
    return _Code((*helpers, text), made)


_DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _parsed(code: str) -> ast.Module | str:
    if len(code) > MOST_CODE:
        return f"the code is longer than {MOST_CODE} characters"
    with warnings.catch_warnings(action="ignore"):
        try:
            return ast.parse(code)
        except SyntaxError as error:
            return f"it does not parse: {error.msg} (line {error.lineno})"
        except (ValueError, RecursionError, MemoryError) as error:
            return f"it does not parse: {error or type(error).__name__}"


def _text(statement: ast.stmt) -> str:
    try:
        return ast.unparse(statement)
    except (ValueError, RecursionError):
        return ""


def _makers(body: Sequence[ast.stmt], name: str) -> Iterator[ast.AST]:
    """Statements of a module that bind ``name``, also where they hang on a condition."""
    for one in body:
        match one:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if one.name == name:
                yield one
            case ast.Assign(targets=targets, value=value):
                if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                    yield value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                if target == name:
                    yield value
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias for alias in names if (alias.asname or alias.name) == name)
            case ast.If() | ast.Try():
                yield from _makers([*one.body, *one.orelse], name)


def _takes(maker: ast.AST, arguments: int) -> bool:
    """Can it be called with so many positional arguments? What cannot be seen is believed."""
    match maker:
        case ast.FunctionDef(args=args) | ast.Lambda(args=args):
            known = len(args.posonlyargs) + len(args.args)
            least = known - len(args.defaults)
            most = float("inf") if args.vararg else known
            return least <= arguments <= most and None not in args.kw_defaults
        case ast.AsyncFunctionDef() | ast.Constant():
            return False
    return True


# What runs in the sandbox, alone: each function imports what it needs, from the standard library.


def _main() -> None:
    """Reads the work from stdin; then stdin and both outputs are nothing, for the code's sake."""
    import builtins
    import json
    import os
    import sys
    import types

    work = json.load(sys.stdin)
    channel, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    report, finish = _reporter(channel, work.pop("token")), os._exit
    tests = [(source, _test(source)) for source in work.pop("tests")]
    table = vars(builtins)
    table.update(exit=sys.exit, quit=sys.exit)
    clean = dict(table)
    report("began")
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    why = _loaded(module, work["code"])
    table.update(clean)
    if work["function"] in vars(module):
        names = {k: v for k, v in vars(module).items() if k not in clean or k == work["function"]}
        names["__builtins__"] = clean
        for number, (source, test) in enumerate(tests):
            report("test", test=number)
            why = test(names)
            table.update(clean)
            if why is not None:
                report("failed", why=f"{source.removeprefix('assert ').strip()[:200]}: {why}")
                finish(0)
        report("passed")
    else:
        report("failed", why=why or f"the code makes no {work['function']}")
    finish(0)


def _reporter(channel: int, token: str) -> Callable[..., None]:
    """Holds on to what it needs: the code may put other functions in these places."""
    import json
    import os

    write, encode = os.write, json.JSONEncoder().encode

    def report(step: str, **more: object) -> None:
        write(channel, ("\n" + encode({"token": token, "step": step, **more}) + "\n").encode())

    return report


def _loaded(module: ModuleType, texts: Sequence[str]) -> str | None:
    """Run the code. What it fails of is kept: a demonstration at its end may fail as it likes."""
    trouble = None
    for text in texts:
        try:
            exec(compile(text, "answer.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        except BaseException as error:
            trouble = _told(error)
    return trouble


def _told(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    return type(error).__name__ + (f": {text[:200]}" if text else "")


def _test(source: str) -> Callable[[dict[str, object]], str | None]:
    """The statement as a function that says why it fails; made before the code runs."""
    import ast

    execute, evaluate, told = exec, eval, _told
    match ast.parse(source).body:
        case [ast.Assert(test=ast.Compare(left=left, ops=[operator], comparators=[right]))]:
            check = _comparison(left, operator, right)
        case [ast.Assert(test=test)]:
            whole = compile(ast.Expression(test), "test", "eval", dont_inherit=True)

            def check(names: dict[str, object]) -> str | None:
                return None if evaluate(whole, names) else "it is false"

        case _:
            lines = compile(source, "test", "exec", dont_inherit=True)

            def check(names: dict[str, object]) -> str | None:
                execute(lines, names)
                return None

    def guarded(names: dict[str, object]) -> str | None:
        try:
            return check(names)
        except BaseException as error:
            return told(error)

    return guarded


def _comparison(
    left: ast.expr, operator: ast.cmpop, right: ast.expr
) -> Callable[[dict[str, object]], str | None]:
    """Both sides by themselves, so that the failure can say what came out."""
    import ast

    evaluate, text, partial = eval, repr, _partial
    sides = [
        compile(ast.Expression(side), "test", "eval", dont_inherit=True) for side in (left, right)
    ]
    whole = ast.Expression(
        ast.Compare(ast.Name("a", ast.Load()), [operator], [ast.Name("b", ast.Load())])
    )
    both = compile(ast.fix_missing_locations(whole), "test", "eval", dont_inherit=True)
    calls = [any(isinstance(n, ast.Call) for n in ast.walk(side)) for side in (left, right)]
    turned = calls == [False, True]

    def check(names: dict[str, object]) -> str | None:
        a, b = (evaluate(side, names) for side in sides)
        if evaluate(both, {"a": a, "b": b, "__builtins__": {}}) and not partial(a, b):
            return None
        return f"got {text(b if turned else a)[:120]}"

    return check


def _partial(a: object, b: object) -> bool:
    """Is a plain value compared with one whose class has its own idea of what it is equal to?"""

    def own(value: object) -> bool:
        if isinstance(value, (list, tuple, set, frozenset)):
            return any(own(item) for item in value)
        if isinstance(value, dict):
            return own(list(value)) or own(list(value.values()))
        return getattr(type(value).__eq__, "__module__", None) == "answer"

    return own(a) != own(b)


@cache
def _inside() -> str:
    parts: tuple[Callable[..., object], ...] = (
        _main,
        _reporter,
        _loaded,
        _told,
        _test,
        _comparison,
        _partial,
    )
    return "\n".join([_FUTURE, *map(inspect.getsource, parts), "_main()"])


_FUTURE = "from __future__ import annotations"
