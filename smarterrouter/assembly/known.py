"""What profiling has found out, put as routing takes it. Decides which abilities count as seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from smarterrouter.completion import Known
from smarterrouter.domain.benchmarks import BenchmarkNotes, Published
from smarterrouter.domain.models import Capability
from smarterrouter.domain.profiles import ProfileNotes
from smarterrouter.profiling.benchmarks.shelf import Shelf, opened
from smarterrouter.profiling.findings import Found, evidence, found, profiles
from smarterrouter.profiling.report import Report, report
from smarterrouter.profiling.task import bundled
from smarterrouter.routing.features import classify
from smarterrouter.routing.quality import ProfiledQuality

PROBED = {"tools": Capability.TOOLS, "vision": Capability.VISION}


def findings(notes: ProfileNotes) -> tuple[Found, ...]:
    """Everything that is kept, model by model. Reads the database: ask it in a thread."""
    return found(notes.models(), notes.figures(), notes.answers())


def whole_report(notes: ProfileNotes) -> Report:
    """Everything that is kept, as people are told it. Reads the database."""
    return report(findings(notes), notes.figures(), bundled())


def shelf(notes: BenchmarkNotes) -> Shelf:
    """All benchmark tables that were imported. Reads the database."""
    return Shelf(opened(notes.tables()), notes.choices())


def known(
    of: Iterable[Found], published: Mapping[str, Mapping[str, Published]] | None = None
) -> Known:
    """As routing takes it; ``published`` is by model and group."""
    every = tuple(of)
    scored = [(item.group or classify(item.prompt), item) for item in evidence(every)]
    return Known(
        quality=ProfiledQuality(scored, published),
        profiles=profiles(every),
        abilities={one.model.model: seen for one in every if (seen := _seen(one))},
    )


def _seen(one: Found) -> Mapping[Capability, bool]:
    """What it was seen to do, and what it failed at."""
    probed = one.abilities.found if one.abilities else {}
    return {
        capability: ability.able
        for name, capability in PROBED.items()
        if (ability := probed.get(name)) is not None and ability.able is not None
    }
