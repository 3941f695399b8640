"""The walk of one request: route, lease, stream; the next candidate while nothing has gone out.

The only way an answer is made, streaming or not. It knows the wings and none of their insides.

1. A virtual model's name is routed: a ``RouteDecision`` with candidates in order. A real model's
   id is a decision with that one candidate.
2. For each candidate in turn: lease it (waiting, loading and evicting as needed), then ask its
   backend. A failure before the first event of the answer goes on to the next candidate; a
   request that is itself at fault does not.
3. The first candidate that answers is kept to the last byte, and its lease with it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from smarterrouter.backends.catalogue import Catalogue
from smarterrouter.domain.chat import ChatRequest
from smarterrouter.domain.decision import Candidate, PromptFeatures, RouteDecision
from smarterrouter.domain.models import Model, ModelProfile
from smarterrouter.domain.ports import Blocks, Leases
from smarterrouter.errors import (
    BackendError,
    BackendTimeout,
    BadRequest,
    InsufficientVram,
    ModelNotFound,
    Overloaded,
    SmarterRouterError,
    Unavailable,
)
from smarterrouter.routing.decision import Contender, Policy, route
from smarterrouter.routing.features import features
from smarterrouter.routing.seconds import Standing

log = logging.getLogger(__name__)

CASCADING = (
    BackendError,
    BackendTimeout,
    InsufficientVram,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
DECISIONS_KEPT = 1000

StandingOf = Callable[[Model], Standing]
"""How a model stands now: resident or not, and what bringing it in would cost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose first event has come. ``blocks`` are as in ``ports.Blocks``."""

    decision: RouteDecision
    candidate: Candidate
    blocks: Blocks


@dataclass(slots=True)
class Walk:
    """How far one request has come; whoever keeps its client company may read along."""

    decision: RouteDecision | None = None
    trying: Candidate | None = None
    leased: bool = False
    failures: list[tuple[Candidate, SmarterRouterError]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VirtualModel:
    """A name that stands for 'whichever is best', with its own quality preference."""

    id: str
    quality_preference: float


class Completions:
    """Everything that answers requests, put together by ``assembly``."""

    def __init__(
        self,
        catalogue: Catalogue,
        leases: Leases,
        standing: StandingOf,
        policy: Policy,
        virtual: Sequence[VirtualModel],
        profiles: Mapping[str, ModelProfile] | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.virtual = {model.id: model for model in virtual}
        self.decisions: deque[RouteDecision] = deque(maxlen=DECISIONS_KEPT)
        self._leases = leases
        self._standing = standing
        self._policy = policy
        self._profiles = profiles if profiles is not None else {}

    def decide(self, request: ChatRequest) -> RouteDecision:
        """The decision for a request, kept nowhere. Raises ``ModelNotFound``."""
        seen = features(request.messages, needs=request.needs, max_tokens=request.max_tokens)
        virtual = self.virtual.get(request.model)
        if virtual is None:
            return self._by_name(self.catalogue.find(request.model), seen)
        policy = Policy(virtual.quality_preference, self._policy.quality)
        contenders = [self._contender(model) for model in self.catalogue.models]
        return route(seen, contenders, policy, virtual.id)

    @asynccontextmanager
    async def complete(self, request: ChatRequest, walk: Walk) -> AsyncIterator[Answer]:
        """The answer to a request; leaving the block stops it and gives the lease back.

        Raises the request's own fault, or what the last candidate failed of.
        """
        decision = walk.decision = self.decide(request)
        self.decisions.append(decision)
        for candidate in decision.candidates:
            walk.trying, walk.leased = candidate, False
            async with AsyncExitStack() as held:
                try:
                    blocks = await self._ask(request, candidate, walk, held)
                except CASCADING as error:
                    walk.failures.append((candidate, error))
                    log.warning("%s did not answer: %s", candidate.model, error.message)
                    continue
                yield Answer(decision, candidate, blocks)
                return
        raise self._verdict(decision, walk)

    async def _ask(
        self, request: ChatRequest, candidate: Candidate, walk: Walk, held: AsyncExitStack
    ) -> Blocks:
        model = self.catalogue.by_ref(candidate.ref)
        if model is None:
            raise ModelNotFound(f"{candidate.model} is no longer there.", param="model")
        await held.enter_async_context(self._leases.lease(candidate.ref, request.caller))
        walk.leased = True
        backend = self.catalogue.backends[candidate.ref.backend]
        return await held.enter_async_context(backend.stream(request, model))

    def outlook(self, walk: Walk) -> str:
        """What a waiting client is waiting for, in a few words."""
        if walk.trying is None:
            return "choosing a model"
        model = self.catalogue.by_ref(walk.trying.ref)
        if walk.leased or model is None:
            return f"{walk.trying.model} is reading the prompt"
        standing = self._standing(model)
        if standing.resident or standing.load_s is None:
            return f"waiting for {model.id}"
        return f"loading {model.id}, about {max(1.0, standing.load_s):.0f} s"

    def _by_name(self, model: Model, seen: PromptFeatures) -> RouteDecision:
        decision = route(seen, [self._contender(model)], self._policy)
        if decision.candidates:
            return decision
        reason = decision.rejected[0].reason
        code = "context_length_exceeded" if reason.startswith("context") else None
        raise BadRequest(f"{model.id} cannot answer this: {reason}.", param="model", code=code)

    def _contender(self, model: Model) -> Contender:
        return Contender(model, self._standing(model), self._profiles.get(model.id))

    def _verdict(self, decision: RouteDecision, walk: Walk) -> SmarterRouterError:
        """What to tell a client whom nobody answered."""
        if walk.failures:
            return _last_word(walk.failures)
        if decision.rejected:
            reasons = "; ".join(f"{r.model}: {r.reason}" for r in decision.rejected[:5])
            return BadRequest(f"No model here can answer this. {reasons}.")
        problems = " ".join(f"{k}: {v}" for k, v in self.catalogue.problems.items())
        advice = problems or "Add a GGUF file to the models folder, or a backend."
        return Unavailable(f"There is no model to answer. {advice}")


def _last_word(failures: Sequence[tuple[Candidate, SmarterRouterError]]) -> SmarterRouterError:
    """One failure as it is; several as one sentence under the last one's status.

    If any of them was mere overload, trying again may help, so that is the status.
    """
    if len(failures) == 1:
        return failures[0][1]
    busy = [error for _, error in failures if isinstance(error, Overloaded)]
    kind = type(busy[0] if busy else failures[-1][1])
    waits = [error.retry_after_s for _, error in failures if error.retry_after_s is not None]
    said = " ".join(f"{candidate.model}: {error.message}" for candidate, error in failures)
    return kind(f"No model answered. {said}", retry_after_s=min(waits) if waits else None)
