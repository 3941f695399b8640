"""The groups of settings, and the tables that stand in the file only. Decides nothing else.

A description completes "It may be ...", and is the setting's meaning in docs/settings.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from smarterrouter.config.values import (
    FOR_EVER,
    KINDS,
    NAME,
    KeepAlive,
    Key,
    Kind,
    Name,
    Strategy,
    Url,
    UserPath,
)


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VramSettings(Group):
    """How much memory models may take, and what happens when it is full."""

    max_total_gb: float | None = Field(
        None,
        gt=0,
        description="gigabytes for all models on this machine together; unset is 90 % of what is "
        "there",
    )
    buffer_gb: float | None = Field(
        None,
        ge=0,
        description="gigabytes left free for others on each device; unset is 1.5, on host RAM 0.5",
    )
    default_estimate_gb: float = Field(
        8.0, gt=0, description="gigabytes assumed for a model nothing is known of"
    )
    auto_unload_enabled: bool = Field(
        True, description="true, or false to never unload a model to make room"
    )
    unload_strategy: Strategy = Field(
        "lru",
        description="lru (the longest unused goes first), largest (the largest goes first) or cost "
        "(what is cheapest to bring back goes first)",
    )
    monitor_interval: float = Field(
        30.0, gt=0, description="seconds between two looks at the devices while nothing happens"
    )
    amd_total_gb: float | None = Field(
        None,
        gt=0,
        description="gigabytes that an AMD APU has for models; unset is what its driver says",
    )
    sysfs: UserPath = Field(
        Path("/sys"), description="the folder where sysfs is mounted, for tests and odd mounts"
    )


class ModelSettings(Group):
    """How models are loaded where their preset does not say; ``context`` is for Ollama's, too."""

    context: int = Field(8192, ge=256, description="tokens that one request may use")
    parallel: int = Field(1, ge=1, le=64, description="requests that one model answers at once")
    keep_alive: KeepAlive = Field(
        FOR_EVER,
        description="seconds that an idle model stays, or a length of time like 30s, 5m or 1h; 0 "
        "unloads it as soon as it is idle, -1 keeps it",
    )


class TimeoutSettings(Group):
    """When to give up waiting, in seconds."""

    connect_s: float = Field(5.0, gt=0, description="seconds to connect to a backend")
    first_byte_s: float = Field(300.0, gt=0, description="seconds until an answer begins")
    stall_s: float = Field(120.0, gt=0, description="seconds of silence within an answer")
    load_s: float = Field(300.0, gt=0, description="seconds for a model to load")


class WaitSettings(Group):
    """What a client that asked for a stream hears while its model loads."""

    comment_s: float = Field(
        5.0, gt=0, description="seconds between two comments that keep the line open"
    )
    as_reasoning: bool = Field(
        False, description="true to show the wait as reasoning text, or false"
    )


class ProfileSettings(Group):
    """When models are profiled by the daemon itself, and what counts besides."""

    on_start: bool = Field(
        True,
        description="true to profile new models quickly while nobody asks anything, or false",
    )
    idle_s: float = Field(
        60.0, ge=0, description="seconds without a request before the daemon profiles by itself"
    )
    benchmarks: bool = Field(
        False,
        description="true to let imported benchmark tables count in routing, or false",
    )


class JudgeSettings(Group):
    """Who compares answers that nobody can check, when models are profiled."""

    model: str | None = Field(
        None,
        min_length=1,
        description="the judge's model id, or biggest for the largest one here; unset is no judge",
    )
    base_url: Url | None = Field(
        None, description="the address of an OpenAI-like API that has it; unset is one of ours"
    )
    api_key: Key | None = Field(None, description="that API's key")


class TableSettings(Group):
    """A table that only the file has: no other version's variables end up in it."""

    model_config = ConfigDict(extra="forbid")


class BackendSettings(TableSettings):
    """One ``[[backend]]`` of the file. Two of them may share a node."""

    name: Name = Field(description=NAME)
    kind: Kind = Field(description=KINDS)
    url: Url | None = Field(None, description="the address of its API")
    api_key: Key | None = Field(None, description="its API key")
    prefix: str = Field("", description="text before each of its models' names")
    node: Name = Field("local", description=f"the machine whose devices it uses: {NAME}")
    models_dir: UserPath | None = Field(None, description="a folder of GGUF files")
    models_preset: UserPath | None = Field(None, description="a llama.cpp preset file (INI)")
    concurrency: int | None = Field(
        None,
        ge=1,
        description="requests that one model of it answers at once; unset is what the backend "
        "says, and no limit where it says nothing",
    )


class NodeSettings(TableSettings):
    """One ``[[node]]`` of the file: another machine, or this one where nothing can be probed."""

    name: Name = Field(description=f"{NAME}; local is this machine")
    metrics_url: Url | None = Field(
        None,
        description="an address that reports its memory: of dcgm-exporter, nvitop-exporter or "
        "another smarterrouter",
    )
    vram_total_gb: float | None = Field(None, gt=0, description="gigabytes of its devices together")
    max_total_gb: float | None = Field(
        None,
        gt=0,
        description="gigabytes for all models there together; unset is 90 % of what is there",
    )
    api_key: Key | None = Field(None, description="the key of that smarterrouter's /admin")

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.metrics_url is None and self.vram_total_gb is None:
            raise ValueError(
                f"'{self.name}' needs metrics_url, an address that reports its memory, or "
                "vram_total_gb, its gigabytes"
            )
        return self


class NamedModelSettings(TableSettings):
    """One ``[models."NAME"]`` of the file. Unset is what holds for all models."""

    keep_alive: KeepAlive | None = Field(
        None,
        description="seconds that it stays when idle, or a length of time like 30s, 5m or 1h; "
        "unset is model.keep_alive",
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        description="requests that this model answers at once; unset is what holds for its backend",
    )
    pinned: bool = Field(False, description="true to never unload it, or false")
    preload: bool = Field(False, description="true to load it at start, or false")
