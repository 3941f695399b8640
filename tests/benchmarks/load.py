"""A load generator in a process of its own: so many requests over so many connections.

Decides whether each answer is whole (status 200, and a body that ends in ``[DONE]`` or is
complete JSON) and measures it to its first and its last body byte. Prints one JSON document.
Every prompt differs, so that no cache can answer; ``cached`` counts answers that say they were.

    python tests/benchmarks/load.py --url http://127.0.0.1:9001/v1/chat/completions --stream
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

SYSTEM = "You are a helpful assistant. Answer briefly and say when you are not sure."
PROMPT = (
    "I keep a small vegetable garden behind the house and this is note {tag} about it. The soil "
    "is heavy clay, it drains badly after rain, and the tomatoes on the north side have yellow "
    "lower leaves while the ones near the wall look fine. I water every second evening and gave "
    "them compost in May. Could you explain what the most likely causes are, in which order I "
    "should check them, and what I can still do this season without digging the bed up?"
)


@dataclass(slots=True)
class Answer:
    """One response as it comes in; times are ``perf_counter`` seconds."""

    started_s: float
    status: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    cached: bool = False
    streamed: bool = False
    body: list[bytes] = field(default_factory=list)

    def fault(self, stream: bool | None) -> str | None:
        """What is wrong with it; ``stream`` is what was asked for, None if it does not matter."""
        body = b"".join(self.body)
        if self.status != 200:
            return f"status {self.status}: {body[:200].decode(errors='replace')}"
        if stream is not None and stream is not self.streamed:
            return f"asked for stream={stream}, got the other"
        if self.streamed:
            return None if body.rstrip().endswith(b"data: [DONE]") else "no [DONE] at the end"
        try:
            json.loads(body)
        except ValueError:
            return "the body is not JSON"
        return None


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer = Answer(0.0)
        self.waiting: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("closed before the answer's end"))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == b"content-type":
            self.answer.streamed = value.startswith(b"text/event-stream")
        elif key == b"x-smarterrouter-cache":
            self.answer.cached = value in (b"exact", b"semantic")

    def on_body(self, data: bytes) -> None:
        if not self.answer.body:
            self.answer.first_s = time.perf_counter()
        self.answer.body.append(data)

    def on_message_complete(self) -> None:
        self.answer.last_s = time.perf_counter()
        self.answer.status = self.parser.get_status_code()
        if not self.parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(self.answer)

    async def ask(self, payload: bytes) -> Answer:
        assert self.transport is not None
        self.waiting = asyncio.get_running_loop().create_future()
        self.answer = Answer(time.perf_counter())
        self.transport.write(payload)
        return await self.waiting


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, and how often. ``stream`` is None for a GET."""

    url: str
    model: str
    stream: bool | None
    connections: int
    requests: int
    warmup: int

    def payload(self, tag: str) -> bytes:
        """One request as a chat app sends it: two messages, some 400 characters of prompt."""
        parts = urlsplit(self.url)
        head = f"{parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        if self.stream is None:
            return f"GET {head}Accept: application/json\r\n\r\n".encode()
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": PROMPT.format(tag=tag)},
        ]
        asked = {"model": self.model, "messages": messages, "temperature": 0.7}
        body = json.dumps({**asked, "stream": self.stream}, separators=(",", ":")).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"POST {head}Accept: */*\r\nUser-Agent: bench\r\n{kind}".encode() + body


@dataclass(slots=True)
class Tally:
    total_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    cached: int = 0

    def count(self, answer: Answer, fault: str | None) -> None:
        self.cached += answer.cached
        if fault is not None:
            self.faults[fault] += 1
            return
        self.total_s.append(answer.last_s - answer.started_s)
        self.first_s.append(answer.first_s - answer.started_s)


async def opened(url: str) -> Connection:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, parts.hostname or "", parts.port or 80)
    return connection


async def work(load: Load, payloads: list[bytes], pool: list[Connection], tally: Tally) -> None:
    """Every connection takes the next payload as soon as its last answer is whole."""
    left = iter(payloads)

    async def ask_all(place: int) -> None:
        for payload in left:
            if pool[place].transport is None:
                pool[place] = await opened(load.url)
            try:
                answer = await pool[place].ask(payload)
            except ConnectionError as error:
                tally.faults[str(error)] += 1
                continue
            tally.count(answer, answer.fault(load.stream))

    async with asyncio.TaskGroup() as group:
        for place in range(len(pool)):
            group.create_task(ask_all(place))


async def measure(load: Load) -> dict[str, Any]:
    tag = f"{time.time_ns():x}"
    payloads = (load.payload(f"{tag}-{n}") for n in range(load.warmup + load.requests))
    warm, measured = list(islice(payloads, load.warmup)), list(payloads)
    pool = [await opened(load.url) for _ in range(load.connections)]
    await work(load, warm, pool, Tally())
    tally = Tally()
    started = time.perf_counter()
    await work(load, measured, pool, tally)
    seconds = time.perf_counter() - started
    for connection in pool:
        if connection.transport is not None:
            connection.transport.close()
    return report(tally, seconds)


def report(tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "answers": len(tally.total_s),
        "seconds": round(seconds, 4),
        "rps": round(len(tally.total_s) / seconds, 2),
        **percentiles(tally.total_s, ""),
        **percentiles(tally.first_s, "first_"),
        "cached": tally.cached,
        "errors": tally.faults.total(),
        "faults": dict(tally.faults.most_common(5)),
    }


def percentiles(values_s: list[float], prefix: str) -> dict[str, float | None]:
    """p50, p95 and p99 in milliseconds; None where there are too few values."""
    wanted = (50, 95, 99)
    if len(values_s) < 2:
        return {f"{prefix}p{p}_ms": None for p in wanted}
    cuts = statistics.quantiles(values_s, n=100, method="inclusive")
    return {f"{prefix}p{p}_ms": round(cuts[p - 1] * 1000, 4) for p in wanted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="bench")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--get", action="store_true", help="ask by GET, without a body")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--warmup", type=int, default=50)
    given = parser.parse_args()
    stream = None if given.get else given.stream
    counts = (given.connections, given.requests, given.warmup)
    print(json.dumps(uvloop.run(measure(Load(given.url, given.model, stream, *counts)))))


if __name__ == "__main__":
    main()
