"""What is believed of a model's size: figures of its own, comparisons, reports and estimates."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from smarterrouter.assembly.demands import MARGIN, Demands
from smarterrouter.assembly.machines import Machines
from smarterrouter.config import Settings
from smarterrouter.domain.models import ModelRef
from smarterrouter.domain.shape import Layer, Layout, Shape
from smarterrouter.residency.events import Held
from smarterrouter.residency.footprint import estimate
from tests.fakes.backend import SlowBackend
from tests.support.residency import gb

A = ModelRef("slow", "a")
SHAPE = Shape(gb(4), (Layer(8, 128, 128),) * 32, 4096, 32000, 14336, 32)


@dataclass
class Shaped(SlowBackend):
    """A backend that knows its models' shapes; ``resident`` is the context of a loaded one."""

    shape: Shape | None = SHAPE
    resident: int = 0
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def context_for(self, name: str, context: int) -> int:
        return max(context, self.resident, 4096)

    def layout(self, name: str, context: int = 0) -> Layout | None:
        self.asked.append(context)
        return Layout(self.shape, self.context_for(name, context)) if self.shape else None


class Clock:
    def now(self) -> float:
        return 0.0


def demands(backend: Shaped) -> Demands:
    settings = Settings()
    return Demands(settings, {"slow": backend}, Machines(settings, Clock()), lambda ref: None)


def bytes_of(told: Demands, context: int = 0) -> tuple[int, int, str]:
    demand = told.of(A, context)
    assert demand
    return demand.bytes, demand.least, demand.source


ESTIMATE = estimate(Layout(SHAPE, 4096)).bytes


def test_an_estimate_is_reserved_with_a_margin() -> None:
    assert bytes_of(demands(Shaped())) == (int(ESTIMATE * MARGIN), ESTIMATE, "estimated")


def test_what_its_processes_hold_is_believed_as_it_is() -> None:
    told = demands(Shaped())
    told.learn(A, 0, Held({"gpu0": gb(9)}, "measured"))
    assert bytes_of(told) == (gb(9), gb(9), "measured")


def test_a_comparison_is_reserved_but_calls_no_model_too_large() -> None:
    """Another program that grew during the load would otherwise bar the model for ever."""
    told = demands(Shaped())
    told.learn(A, 0, Held({"gpu0": gb(9)}, "measured", certain=False))
    assert bytes_of(told) == (gb(9), ESTIMATE, "measured")


def test_a_comparison_of_a_model_without_a_shape_may_be_too_much_by_what_is_believed_at_all() -> (
    None
):
    told = demands(Shaped(shape=None))
    told.learn(A, 0, Held({"gpu0": gb(8)}, "measured", certain=False))
    assert bytes_of(told) == (gb(8), gb(5), "measured")


@pytest.mark.parametrize(
    ("then", "counts"),
    [
        (Held({"gpu0": gb(7)}, "measured"), gb(7)),
        (Held({"gpu0": gb(6)}, "measured", certain=False), gb(6)),
        (Held({"": gb(7)}, "reported"), gb(9)),
        (Held({"": gb(12)}, "reported"), gb(12)),
    ],
)
def test_what_comes_after_a_comparison(then: Held, counts: int) -> None:
    """A report counts where it is more: its backend had to put a part of the model elsewhere."""
    told = demands(Shaped())
    told.learn(A, 0, Held({"gpu0": gb(9)}, "measured", certain=False))
    told.learn(A, 0, then)
    assert bytes_of(told)[0] == counts


def test_a_comparison_does_not_replace_what_its_processes_held() -> None:
    told = demands(Shaped())
    told.learn(A, 0, Held({"gpu0": gb(7)}, "measured"))
    told.learn(A, 0, Held({"gpu0": gb(9)}, "measured", certain=False))
    assert bytes_of(told) == (gb(7), gb(7), "measured")


def test_a_comparison_is_kept_as_one_over_a_restart() -> None:
    kept: list[tuple[str, int, str]] = []
    settings, backend = Settings(), Shaped()
    machines = Machines(settings, Clock())
    before = Demands(
        settings, {"slow": backend}, machines, lambda r: None, lambda *one: kept.append(one)
    )
    before.learn(A, 0, Held({"gpu0": gb(9)}, "measured", certain=False))
    after = demands(backend)
    after.known |= {name: (count, source) for name, count, source in kept}
    assert bytes_of(after) == (gb(9), ESTIMATE, "measured")


def test_a_demand_follows_the_context_that_is_resident() -> None:
    backend = Shaped(resident=65536)
    told = demands(backend)
    large = bytes_of(told)[0]
    backend.resident = 0
    assert bytes_of(told)[0] == int(ESTIMATE * MARGIN) < large


def test_a_demand_is_put_together_once_for_each_context() -> None:
    backend = Shaped()
    told = demands(backend)
    for context in (0, 100, 4096, 0):
        told.of(A, context)
    assert len(set(backend.asked)) == 1


def test_no_loop_is_needed_to_ask() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert demands(Shaped()).of(A)
