"""Timing a model of which nothing is known, on a rig that takes as long as its speed says."""

from __future__ import annotations

import asyncio

import pytest

from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.models import Model
from smarterrouter.domain.profiles import Depth
from smarterrouter.errors import BackendTimeout
from smarterrouter.profiling.asking import Reply
from smarterrouter.profiling.measuring import FIRST_LIMIT_S, READ_S, at_once, timed
from smarterrouter.profiling.rig import Pace
from tests.fakes.rig import FakeRig, model

DECODE_TPS = 20.0


class Wall:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Machine(FakeRig):
    """Reads so many tokens a second, however fast it seemed; a word is a token."""

    def __init__(self, read_tps: float, stalls_at: float = 1e9) -> None:
        super().__init__([A], self.says_at_its_speed)
        self.read_tps = read_tps
        self.stalls_at = stalls_at
        self.lengths: list[int] = []

    def pace(self, model: Model) -> Pace:
        return Pace(load_s=1.0, prefill_tps=5000.0, decode_tps=300.0)

    async def ask(self, request: ChatRequest, model: Model, limit_s: float) -> Reply:
        tokens = len(request.messages[-1].text.split())
        seconds = tokens / self.read_tps * (10 if tokens > self.stalls_at else 1)
        self.lengths.append(tokens)
        if seconds + 48 / DECODE_TPS > limit_s:
            raise BackendTimeout(f"a had not answered after {limit_s:.0f} s.")
        return self.says(request, model)

    def says_at_its_speed(self, request: ChatRequest, _: Model) -> Reply:
        tokens = len(request.messages[-1].text.split())
        return Reply(
            text="one two",
            prompt_tokens=tokens,
            answer_tokens=48,
            prefill_tokens=tokens,
            prefill_s=tokens / self.read_tps,
            decode_tokens=48,
            decode_s=48 / DECODE_TPS,
            ttft_s=tokens / self.read_tps,
            seconds=1.0,
        )


A = model("a")


@pytest.mark.parametrize("read_tps", [3.0, 60.0, 130.0, 900.0, 20_000.0])
async def test_a_model_is_timed_however_much_slower_it_is_than_its_size_suggests(
    read_tps: float,
) -> None:
    rig = Machine(read_tps)
    found = await timed(rig, A, Depth.QUICK, rig.pace(A))
    assert found.why is None
    assert found.prefill_tps == pytest.approx(read_tps)
    assert found.decode_tps == pytest.approx(DECODE_TPS)
    assert 1 <= len(found.lengths) <= 3
    longest = max(rig.lengths)
    assert longest <= 4200
    assert longest / read_tps <= max(READ_S[Depth.QUICK] * 1.2, 150 / read_tps)


async def test_three_lengths_are_timed_where_that_takes_no_time() -> None:
    rig = Machine(900.0)
    found = await timed(rig, A, Depth.FULL, rig.pace(A))
    assert [round(row.prompt_tokens, -2) for row in found.lengths] == [100, 1000, 4100]
    assert [row.answers for row in found.lengths] == [3, 3, 3]


async def test_a_length_that_takes_too_long_is_told_and_the_others_stand() -> None:
    rig = Machine(200.0, stalls_at=2000)
    found = await timed(rig, A, Depth.FULL, rig.pace(A))
    assert [row.answers for row in found.lengths] == [3, 3]
    assert found.prefill_tps == pytest.approx(200.0)
    assert found.why
    assert "prompts of 4096 tokens take too long" in found.why


async def test_requests_at_once_that_take_too_long_have_no_rate() -> None:
    class Crowded(Machine):
        async def ask(self, request: ChatRequest, model: Model, limit_s: float) -> Reply:
            self._now += 1
            await asyncio.sleep(0)
            try:
                if self._now > 2:
                    raise BackendTimeout("a had not answered.")
                return self.says(request, model)
            finally:
                self._now -= 1

    rig = Crowded(900.0)
    rows = (await at_once(rig, A, rig.pace(A), Wall())).rows
    assert [row.requests for row in rows] == [2, 4]
    assert rows[0].tps
    assert rows[1].tps is None


async def test_a_model_that_never_answers_fails() -> None:
    with pytest.raises(BackendTimeout):
        await timed(Machine(20 / FIRST_LIMIT_S / 2), A, Depth.QUICK, Machine(1.0).pace(A))
