"""Asks the judge. Decides when to ask again, when to give up, and what a failure is called.

What it is asked of, and through what, is handed in as ``ask``: a leased local model, or
``endpoint.http_ask``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    Overloaded,
    SmarterRouterError,
    Unauthorized,
    Unavailable,
)
from smarterrouter.profiling.judge.pairs import Comparison
from smarterrouter.profiling.judge.question import Message, asked
from smarterrouter.profiling.judge.reading import verdict
from smarterrouter.profiling.judge.results import IN_WORDS, Failure, Result

Ask = Callable[[Sequence[Message]], Awaitable[str]]
"""Puts (role, text) messages to the judge. Raises errors of ``smarterrouter.errors``."""

Heard = Callable[[Comparison, Result], Awaitable[None]]
"""Keeps a result. The next question waits for it, so that none is lost."""

PASSING = (Overloaded, Unavailable, BackendError, BackendTimeout, TimeoutError)
"""What may be over when one asks again."""

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LONGEST_QUOTE = 200

_KINDS: tuple[tuple[type[Exception], Failure], ...] = (
    (BackendTimeout, Failure.TIMEOUT),
    (TimeoutError, Failure.TIMEOUT),
    (Overloaded, Failure.OVERLOADED),
    (Unavailable, Failure.UNAVAILABLE),
    (Unauthorized, Failure.UNAUTHORIZED),
    (BadRequest, Failure.REFUSED),
)


@dataclass(frozen=True, slots=True)
class Hearing:
    """Everything that was heard, earlier results included; why it ended early, if it did."""

    results: tuple[Result, ...]
    gave_up: str | None = None


async def run(
    comparisons: Sequence[Comparison],
    ask: Ask,
    *,
    heard: Heard | None = None,
    earlier: Iterable[Result] = (),
    retries: int = 3,
    timeout_s: float | None = 180.0,
    concurrency: int = 1,
    stop_after_failures: int = 8,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    seed: int = 0,
) -> Hearing:
    """Ask whatever ``earlier`` has no final answer to; ``heard`` gets each new result at once.

    ``timeout_s`` is for one attempt, all that ``ask`` waits for included; ``None`` where ``ask``
    has a limit of its own. Ends early after so many questions in a row without a
    verdict, or when the key is refused; what was judged by then stays. Raises whatever ``heard``
    raises, and what ``ask`` raises but for ``SmarterRouterError`` and ``TimeoutError``.
    """
    known = {result.key: result for result in earlier if result.final}
    wanted = {one.key: one for one in comparisons}
    todo = [one for key, one in wanted.items() if key not in known and not one.identical]
    asking = _Asking(ask, retries, timeout_s, sleep, Random(seed))
    session = _Session(asking, iter(todo), heard, stop_after_failures)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(todo))):
                group.create_task(session.work())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    before = (known[key] for key in wanted if key in known)
    return Hearing((*before, *session.results), session.gave_up)


def wait_s(attempt: int, chance: float, retry_after_s: float | None = None) -> float:
    """Seconds before asking again after failure number ``attempt`` (from 0).

    Doubles each time; ``chance`` (0 .. 1) takes off up to half, so that many do not come at once.
    No less than the server asks for, and no more than ``LONGEST_WAIT_S``.
    """
    doubled = FIRST_WAIT_S * 2.0 ** min(attempt, 30)
    own = min(doubled, LONGEST_WAIT_S) * (1.0 - chance / 2)
    return min(max(own, retry_after_s or 0.0), LONGEST_WAIT_S)


class _Asking:
    """One question at a time, with patience."""

    def __init__(
        self,
        ask: Ask,
        retries: int,
        timeout_s: float | None,
        sleep: Callable[[float], Awaitable[object]],
        chance: Random,
    ) -> None:
        self._ask, self._sleep, self._chance = ask, sleep, chance
        self._retries, self._timeout_s = retries, timeout_s

    async def result(self, one: Comparison, go_on: Callable[[], bool]) -> Result:
        """What comes of a comparison; it is not asked again once ``go_on`` says no."""
        messages = asked(one)
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return _read(one, await self._ask(messages))
            except PASSING as error:
                if attempt == self._retries or not go_on():
                    return _failed(one, error)
                pause = wait_s(attempt, self._chance.random(), _retry_after_s(error))
            except SmarterRouterError as error:
                return _failed(one, error)
            await self._sleep(pause)
            attempt += 1


class _Session:
    """What several workers share: the questions left, the results, and how often it failed."""

    def __init__(
        self,
        asking: _Asking,
        left: Iterable[Comparison],
        heard: Heard | None,
        stop_after_failures: int,
    ) -> None:
        self.results: list[Result] = []
        self.gave_up: str | None = None
        self._asking, self._left, self._heard = asking, iter(left), heard
        self._most_in_a_row = stop_after_failures
        self._in_a_row = 0

    async def work(self) -> None:
        while self._going() and (one := next(self._left, None)) is not None:
            result = await self._asking.result(one, self._going)
            self.results.append(result)
            self._weigh(result)
            if self._heard:
                await self._heard(one, result)

    def _going(self) -> bool:
        return self.gave_up is None

    def _weigh(self, result: Result) -> None:
        self._in_a_row = self._in_a_row + 1 if result.failure else 0
        if result.failure is None or self.gave_up:
            return
        what = f"it {IN_WORDS[result.failure]} ({result.said or 'without a word'})"
        if result.failure is Failure.UNAUTHORIZED:
            self.gave_up = f"Nothing more was asked: {what}."
        elif self._in_a_row >= self._most_in_a_row:
            self.gave_up = (
                f"Nothing more was asked after {self._in_a_row} questions in a row without a "
                f"verdict; at last {what}."
            )


def _read(one: Comparison, text: str) -> Result:
    preference = verdict(text)
    if preference is None:
        said = " ".join(text[-LONGEST_QUOTE:].split())
        return Result(one.key, failure=Failure.UNREADABLE, said=said)
    return Result(one.key, preference)


def _failed(one: Comparison, error: Exception) -> Result:
    kind = next((failure for kind, failure in _KINDS if isinstance(error, kind)), Failure.FAILED)
    return Result(one.key, failure=kind, said=str(error).rstrip("."))


def _retry_after_s(error: Exception) -> float | None:
    return error.retry_after_s if isinstance(error, SmarterRouterError) else None
