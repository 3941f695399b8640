"""The walk of one request: route, lease, stream; the next candidate while nothing has gone out.

The only way an answer is made, streaming or not. It knows the wings and none of their insides.

1. A virtual model's name is routed: a ``RouteDecision`` with candidates in order. A real model's
   id is a decision whose candidates are that model's homes.
2. For each candidate in turn: lease it (waiting, loading and evicting as needed), then ask its
   backend. A failure before the first event of the answer goes on to the next candidate; a
   request that is itself at fault does not.
3. The first candidate that answers is kept to the last byte, and its lease with it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from smarterrouter.backends.catalogue import Catalogue
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.decision import Candidate, PromptFeatures, RouteDecision
from smarterrouter.domain.models import Capability, Model, ModelProfile
from smarterrouter.domain.ports import Backend, Blocks, Clock, Leases
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    InsufficientVram,
    ModelNotFound,
    Overloaded,
    SmarterRouterError,
    Unavailable,
    Unsupported,
)
from smarterrouter.routing.decision import TOO_LONG, Contender, Policy, route
from smarterrouter.routing.features import features
from smarterrouter.routing.quality import ProfiledQuality
from smarterrouter.routing.seconds import Standing

log = logging.getLogger(__name__)

CASCADING = (
    BackendError,
    BackendTimeout,
    InsufficientVram,
    ModelNotFound,
    Overloaded,
    Unavailable,
    Unsupported,
)
DECISIONS_KEPT = 1000

StandingOf = Callable[[Model], Standing]
"""How a model stands now: resident or not, and what bringing it in would cost."""


class Answer(Struct, frozen=True):
    """An answer whose first event has come. ``blocks`` are as in ``ports.Blocks``."""

    decision: RouteDecision
    candidate: Candidate
    blocks: Blocks


class Known(Struct, frozen=True):
    """What profiling has found out: scores, figures by a model's id, and what each can do."""

    quality: ProfiledQuality = ProfiledQuality()
    profiles: Mapping[str, ModelProfile] = {}
    abilities: Mapping[str, Mapping[Capability, bool]] = {}


class Traffic:
    """How many requests are being answered, and since when nobody has wanted anything.

    All of ``arrived`` are called when one comes.
    """

    def __init__(self, clock: Clock) -> None:
        self.under_way = 0
        self.arrived: set[Callable[[], None]] = set()
        self._clock = clock
        self._last = clock.now()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Entered for the length of a request."""
        self.under_way += 1
        for told in tuple(self.arrived):
            told()
        try:
            yield
        finally:
            self.under_way -= 1
            self._last = self._clock.now()

    @property
    def idle_s(self) -> float:
        """How long nobody has wanted anything."""
        return 0.0 if self.under_way else self._clock.now() - self._last


@dataclass(slots=True)
class Walk:
    """How far one request has come; whoever keeps its client company may read along.

    ``expected_wait_s`` is what the wait for the model being tried seemed when it began,
    ``waited_s`` what all waits came to, ``loading_s`` the part of that spent loading.
    """

    decision: RouteDecision | None = None
    trying: Candidate | None = None
    leased: bool = False
    expected_wait_s: float = 0.0
    waited_s: float = 0.0
    loading_s: float = 0.0
    failures: list[tuple[Candidate, SmarterRouterError]] = field(default_factory=list)


class Completions:
    """Everything that answers requests, put together by ``assembly``.

    ``known`` is what profiling has found out so far.

    ``virtual`` are the names that stand for 'whichever is best', each with its own quality
    preference; ``policy`` is for requests that name a real model.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        leases: Leases,
        standing: StandingOf,
        policy: Policy,
        virtual: Mapping[str, float],
        traffic: Traffic,
    ) -> None:
        self.catalogue = catalogue
        self.virtual = virtual
        self.decisions: deque[RouteDecision] = deque(maxlen=DECISIONS_KEPT)
        self.known = Known()
        self.traffic = traffic
        self._leases = leases
        self._standing = standing
        self._policy = policy

    def decide(self, request: ChatRequest) -> RouteDecision:
        """The decision for a request, kept nowhere. Raises ``ModelNotFound``."""
        seen = features(request.messages, needs=request.needs, max_tokens=request.max_tokens)
        preference = self.virtual.get(request.model)
        if preference is None:
            return self._by_name(request.model, seen)
        policy = Policy(preference, self.known.quality)
        contenders = [self._contender(model) for model in self.catalogue.models]
        return route(seen, contenders, policy, request.model)

    def _contender(self, model: Model) -> Contender:
        """A model with what was measured of it; what it was seen to do is no longer uncertain."""
        profile, abilities = self.known.profiles.get(model.id), self.known.abilities.get(model.id)
        if abilities and model.uncertain:
            model = _certain(model, abilities)
        return Contender(model, self._standing(model), profile)

    @asynccontextmanager
    async def complete(self, request: ChatRequest, walk: Walk) -> AsyncIterator[Answer]:
        """The answer to a request; leaving the block stops it and gives the lease back.

        Raises the request's own fault, or what the last candidate failed of.
        """
        decision = walk.decision = self.decide(request)
        self.decisions.append(decision)
        with self.traffic.one():
            async with self._walked(request, walk, decision) as answer:
                yield answer

    @asynccontextmanager
    async def _walked(
        self, request: ChatRequest, walk: Walk, decision: RouteDecision
    ) -> AsyncIterator[Answer]:
        request = replace(request, prompt_tokens=decision.features.prompt_tokens)
        for candidate in decision.candidates:
            walk.trying, walk.leased, answered = candidate, False, False
            try:
                model, backend = self._place(candidate)
                walk.expected_wait_s = self._standing(model).wait_s
                need = backend.context_need(request, model)
                async with self._leases.lease(candidate.ref, request.caller, need) as lease:
                    walk.leased = True
                    walk.waited_s += lease.waited_s
                    walk.loading_s += lease.loading_s
                    async with backend.stream(request, model) as blocks:
                        answered = True
                        yield Answer(decision, candidate, blocks)
                        return
            except CASCADING as error:
                if isinstance(error, BackendError | BackendTimeout | Unavailable):
                    self.catalogue.suspect(candidate.ref.backend)
                if answered:
                    raise
                walk.failures.append((candidate, error))
                log.warning("%s did not answer: %s", candidate.model, error.message)
        raise self._verdict(decision, walk)

    def _place(self, candidate: Candidate) -> tuple[Model, Backend]:
        """The model as it is now, and where it runs. Raises ``ModelNotFound`` if it has gone."""
        model = self.catalogue.by_ref(candidate.ref)
        if model is None:
            raise ModelNotFound(f"{candidate.model} is no longer there.", param="model")
        return model, self.catalogue.backends[candidate.ref.backend]

    def outlook(self, walk: Walk) -> str:
        """What a waiting client is waiting for, in a few words."""
        if walk.trying is None:
            return "choosing a model"
        model = self.catalogue.by_ref(walk.trying.ref)
        if walk.leased or model is None:
            return f"{walk.trying.model} is reading the prompt"
        standing = self._standing(model)
        queue = f"about {standing.queue_s:.0f} s" if standing.queue_s >= 1.0 else "a moment"
        if standing.resident or standing.load_s is None:
            return f"waiting for {model.id}, {queue}"
        seconds = f"about {max(1.0, standing.load_s):.0f} s"
        if not standing.loading:
            return f"waiting for room for {model.id}, {queue}, then {seconds} to load"
        return f"loading {model.id}, {seconds}"

    def expected_wait_s(self, walk: Walk) -> float | None:
        """How long the client will wait from now on; ``None`` when nobody can say."""
        model = self.catalogue.by_ref(walk.trying.ref) if walk.trying else None
        return self._standing(model).wait_s if model and not walk.leased else None

    def _by_name(self, name: str, seen: PromptFeatures) -> RouteDecision:
        """A real model was asked for; its homes are the candidates.

        That it does not fit is for residency to say, with its own status.
        """
        homes = self.catalogue.homes(name)
        contenders = [self._contender(model) for model in homes]
        named = [replace(c, standing=replace(c.standing, obstacle=None)) for c in contenders]
        decision = route(seen, named, Policy(self._policy.quality_preference, self.known.quality))
        if decision.candidates:
            return decision
        reason = decision.rejected[0].reason
        code = "context_length_exceeded" if reason.startswith(TOO_LONG) else None
        raise BadRequest(f"{name} cannot answer this: {reason}.", param="model", code=code)

    def _verdict(self, decision: RouteDecision, walk: Walk) -> SmarterRouterError:
        """What to tell a client whom nobody answered."""
        if walk.failures:
            return _last_word(walk.failures)
        if decision.rejected:
            if any(one.room for one in decision.rejected):
                return InsufficientVram(decision.why())
            too_long = all(one.reason.startswith(TOO_LONG) for one in decision.rejected)
            code = "context_length_exceeded" if too_long else None
            return BadRequest(decision.why(), code=code)
        return Unavailable(self.nothing_to_answer())

    def nothing_to_answer(self) -> str:
        """Why there is no model, and what would bring one."""
        problems = " ".join(self.catalogue.problems.values())
        advice = problems or "Add a GGUF file to the models folder, or a backend."
        return f"There is no model to answer. {advice}"


def _certain(model: Model, abilities: Mapping[Capability, bool]) -> Model:
    able = {one for one in model.uncertain if abilities.get(one)}
    return dataclasses.replace(
        model,
        capabilities=model.capabilities | able,
        uncertain=model.uncertain - abilities.keys(),
    )


def _last_word(failures: Sequence[tuple[Candidate, SmarterRouterError]]) -> SmarterRouterError:
    """One failure as it is; several as one sentence under the last one's status.

    If any of them was mere overload, trying again may help, so that is the status.
    """
    if len(failures) == 1:
        return failures[0][1]
    busy = [error for _, error in failures if isinstance(error, Overloaded)]
    kind = type(busy[0] if busy else failures[-1][1])
    waits = [error.retry_after_s for _, error in failures if error.retry_after_s is not None]
    said = " ".join(_told(candidate, error) for candidate, error in failures)
    return kind(f"No model answered. {said}", retry_after_s=min(waits) if waits else None)


def _told(candidate: Candidate, error: SmarterRouterError) -> str:
    """The failure as a sentence that names its model once."""
    told = error.message.rstrip()
    told = told if told.startswith(candidate.model) else f"{candidate.model}: {told}"
    return told if told.endswith((".", "!", "?")) else f"{told}."
