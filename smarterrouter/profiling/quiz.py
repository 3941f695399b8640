"""Asks one candidate the tasks, a few at a time, until its scores have settled.

Decides what an answer counts: what was cut off, took too long or did not fit is unmeasured and not
wrong. That nothing came counts only once the model has answered something else: else its backend
hangs, and the model is given up. Which task comes next, and when it is enough, ``statistics``
decides. Each answer is kept before it counts. Scores that had settled stay so, also where models
that came later would raise new questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Raw

from smarterrouter.domain.models import Model
from smarterrouter.domain.profiles import Answer, Depth, Figures
from smarterrouter.errors import BackendTimeout, BadRequest, InsufficientVram, PayloadTooLarge
from smarterrouter.profiling import checkers
from smarterrouter.profiling.asking import CHARACTERS_PER_TOKEN, Reply, question, thinking
from smarterrouter.profiling.bench import Bench
from smarterrouter.profiling.checkers import python as python_code
from smarterrouter.profiling.checkers import shell as shell_code
from smarterrouter.profiling.checkers.reading import answer_of
from smarterrouter.profiling.checkers.specs import Judged, Python, Shell
from smarterrouter.profiling.checkers.verdict import How, Verdict
from smarterrouter.profiling.events import Answered
from smarterrouter.profiling.forecast import ANSWERED, AT_ONCE, gain, rest_asked, task_s
from smarterrouter.profiling.measuring import PASSING, ask, limit_s, together, works
from smarterrouter.profiling.rig import Pace
from smarterrouter.profiling.sandbox import Sandbox
from smarterrouter.profiling.statistics import Item, Progress, next_tasks
from smarterrouter.profiling.task import Task

NO_THINK = "#no-think"
THOUGHT_TOKENS = 2048
"""What a model may think beside its answer."""
LONGEST_KEPT = 16_000
LEAST_ROOM = 32
UNANSWERED = (*PASSING, BackendTimeout, BadRequest, InsufficientVram, PayloadTooLarge)
"""What a question may fail of that says nothing of the next one."""
HANGS = 3
"""After so many questions without an answer it is tried whether the model answers at all."""
SETTLED = "settled:"
"""How the step is called in which it is kept why a subject's scores had settled."""

Known = dict[str, dict[str, float | None]]
"""Scores by subject and task."""


class Quiz:
    """``switch`` has the model think or not; ``None`` where it cannot choose. ``kept`` are the
    bodies of the model's figures, by step."""

    def __init__(
        self,
        bench: Bench,
        model: Model,
        switch: bool | None,
        pace: Pace,
        kept: Mapping[str, Raw],
    ) -> None:
        self.subject = model.id + (NO_THINK if switch is False else "")
        self._bench = bench
        self._model = model
        self._switch = switch
        self._pace = pace
        self._identity = bench.rig.identity(model)
        self._at_once = max(1, min(AT_ONCE, bench.rig.slots(model)))
        self._settled = kept.get(SETTLED + self.subject)
        self._until: float | None = None
        self._silent: list[Answer] = []
        self._usual: Sequence[Task] = [
            task for task in bench.options.tasks if task.quick or bench.options.depth is Depth.FULL
        ]

    async def ask(self, left_s: float | None = None) -> None:
        """Ask what is still to be asked. After ``left_s`` nothing new is begun."""
        clock = self._bench.clock
        self._until = until = None if left_s is None else clock.now() + left_s
        known = await self._known()
        mine = known.setdefault(self.subject, {})
        if settled := self._had_settled():
            self._usual = ()
        while until is None or clock.now() < until:
            batch, left = self._next(known)
            if not batch:
                break
            await self._batch(batch, mine, left)
            if len(self._silent) >= HANGS:
                await self._sure_of_silence()
        await self._sure_of_silence()
        if not settled:
            await self._keep_settled(self._progress(known))

    def _next(self, known: Known) -> tuple[list[Task], list[Task]]:
        """Whom to ask now, and what may still come after that."""
        mine = known[self.subject]
        always = [task for task in self._bench.options.always if task.key not in mine]
        usual = {task.key: task for task in self._usual}
        left = [task for key, task in usual.items() if key not in mine]
        if always:
            return always[: self._at_once], [*always[self._at_once :], *left]
        batch = [usual[item.key] for item in self._progress(known).ask]
        return batch, [task for task in left if task not in batch]

    def _progress(self, known: Known) -> Progress:
        items = [item_of(task) for task in self._usual]
        return next_tasks(items, known, self.subject, at_once=self._at_once)

    def _had_settled(self) -> bool:
        """Whether an earlier run at this depth, or a deeper one, asked all that it wanted to."""
        if self._settled is None:
            return False
        asked = msgspec.json.decode(self._settled).get("asked")
        return asked in (Depth.FULL, self._bench.options.depth)

    async def _known(self) -> Known:
        """What is kept of every subject; of this one, only what this very file has answered."""
        return scores_of(
            answer
            for answer in await asyncio.to_thread(self._bench.notes.answers)
            if answer.subject != self.subject or answer.identity == self._identity
        )

    async def _batch(
        self, batch: Sequence[Task], mine: dict[str, float | None], left: Sequence[Task]
    ) -> None:
        answers = await together([self._answer(task) for task in batch])
        left_s = self._left_s(left)
        for number, answer in enumerate(answers):
            mine[answer.task] = answer.score
            waiting = len(left) + len(answers) - number - 1
            self._bench.tell(
                Answered(
                    self.subject,
                    answer.task_id,
                    answer.group,
                    answer.score,
                    answer.why,
                    waiting,
                    left_s,
                )
            )

    def _left_s(self, left: Sequence[Task]) -> float:
        seconds = sum(task_s(task, self._pace) for task in left) / gain(self._at_once)
        if self._until is not None:
            return max(0.0, min(seconds, self._until - self._bench.clock.now()))
        return seconds * rest_asked(len(left), len(self._usual))

    async def _answer(self, task: Task) -> Answer:
        """Ask it, judge it, and keep it."""
        reply, verdict = await self._replied(task)
        answer = Answer(
            identity=self._identity,
            subject=self.subject,
            task=task.key,
            task_id=task.id,
            group=task.group,
            level=task.level,
            prompt=task.text,
            score=verdict.score,
            how=verdict.how,
            why=verdict.why,
            text=answer_of(reply.text)[:LONGEST_KEPT] if reply else "",
            prompt_tokens=reply.prompt_tokens if reply else None,
            answer_tokens=reply.answer_tokens if reply else None,
            seconds=reply.seconds if reply else 0.0,
            at=self._bench.wall(),
        )
        if reply is None:
            self._silent.append(answer)
        else:
            await self._bench.notes.keep(answer)
        return answer

    async def _sure_of_silence(self) -> None:
        """Keep what was not answered, now that the model answers something else.

        Raises what it fails of if it does not.
        """
        if self._silent:
            await works(self._bench.rig, self._model, self._pace)
        while self._silent:
            await self._bench.notes.keep(self._silent[0])
            del self._silent[0]

    async def _replied(self, task: Task) -> tuple[Reply | None, Verdict]:
        thought = THOUGHT_TOKENS if self._switch else 0
        prompt_tokens = int(len(task.text) / CHARACTERS_PER_TOKEN)
        context = self._model.usable_context
        if context is not None and prompt_tokens + LEAST_ROOM > context:
            why = f"about {prompt_tokens} tokens do not fit its context of {context}"
            return None, Verdict(None, why)
        most = task.max_tokens + thought
        request = question(self._model.id, task.said, most, **thinking(self._switch))
        limit = self._at_once * limit_s(self._pace, prompt_tokens, most)
        try:
            reply = await ask(self._bench.rig, request, self._model, limit)
        except UNANSWERED as error:
            return None, Verdict(None, error.message)
        if reply.cut_off:
            return reply, Verdict(None, f"cut off after {reply.answer_tokens or most} tokens")
        return reply, await verdict_of(task, reply.text, self._bench.sandbox)

    async def _keep_settled(self, progress: Progress) -> None:
        asked = self._bench.options.depth if progress.done else None
        told = {"groups": progress.groups, "overall": progress.overall, "asked": asked}
        body = Raw(msgspec.json.encode(told))
        step = SETTLED + self.subject
        at = self._bench.wall()
        await self._bench.notes.keep(Figures(identity=self._identity, step=step, body=body, at=at))


async def verdict_of(task: Task, text: str, sandbox: Sandbox | None) -> Verdict:
    """What the task's checker says of an answer; reasoning in it does not count."""
    answer = answer_of(text)
    if not answer.strip():
        return Verdict(0.0, "the answer is empty")
    match task.check:
        case Judged():
            return Verdict(None, "waits for a judge", How.JUDGED)
        case Python() as spec if sandbox:
            return await python_code.check(spec, answer, sandbox)
        case Shell() as spec if sandbox:
            return await shell_code.check(spec, answer, sandbox)
        case Python() | Shell():
            return await asyncio.to_thread(checkers.parses, task.check, answer)
    return await asyncio.to_thread(checkers.check, task.check, answer)


def item_of(task: Task) -> Item:
    """The task as far as counting goes."""
    tokens = len(task.text) / CHARACTERS_PER_TOKEN / 8 + ANSWERED * task.max_tokens
    return Item(task.key, task.group, task.level, tokens)


def scores_of(answers: Iterable[Answer]) -> Known:
    """By subject and task."""
    found: Known = {}
    for answer in answers:
        found.setdefault(answer.subject, {})[answer.task] = answer.score
    return found
