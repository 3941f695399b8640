"""How one model is started: its context, slots, caches and flags, and the child's command.

Decides what the preset leaves open. Context, slots and the prompt cache are always set
explicitly, since each costs memory: ``ctx-size`` = context x slots, and no prompt cache in RAM.
The cards are those that it is handed, unless the preset says how much goes where. Pure; ``child``
starts what this describes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from smarterrouter.backends.managed.cards import ORDERED, Split, placed_by, uses_cards
from smarterrouter.backends.managed.folder import Entry
from smarterrouter.backends.managed.layout import cache_ram_bytes, on_card, shape_of, swa_full
from smarterrouter.domain.models import Capability
from smarterrouter.domain.shape import Layout, Shape
from smarterrouter.errors import BackendError, ConfigError

LONGEST_EMBEDDING_BATCH = 2048
WHEEL_LAYERS = {"auto": -1, "all": -2}
HOST = "127.0.0.1"
CHECKPOINTS = "2"
"""States that a server keeps of each slot, to go back to. Its own 32 let a model grow by half."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model gets where its preset is silent: tokens a request, requests at once, and the
    threads of one that computes on the CPU (``None``: llama.cpp's own choice)."""

    context: int = 8192
    parallel: int = 1
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model's start. ``context`` is the whole of it, ``parallel`` slots share it equally."""

    entry: Entry
    context: int
    parallel: int
    cache_type_k: str
    cache_type_v: str
    cache_ram_mib: int
    embedding: bool
    pooling: str | None
    batch: int
    ubatch: int
    threads: int | None = None

    @property
    def served_context(self) -> int:
        """Tokens that one request may use."""
        return self.context // self.parallel

    def with_context(self, tokens: int) -> Recipe:
        """The same with room for requests of so many tokens, as far as the model was trained."""
        if tokens <= self.served_context:
            return self
        trained = self.entry.header.context_length or tokens
        return replace(self, context=max(self.context, min(tokens, trained) * self.parallel))

    @property
    def shape(self) -> Shape:
        """Its proportions, the image projector's weights included."""
        return shape_of(self.entry)

    def layout(self, *, cards: bool) -> Layout | None:
        """How it lies in memory; ``cards`` says whether its llama.cpp can use any.

        ``None`` where the preset sends single tensors to RAM: what is left is not known.
        """
        gpu = cards and uses_cards(self.entry.preset)
        shape = on_card(self.entry) if gpu else self.shape
        if shape is None:
            return None
        return Layout(
            shape=shape,
            context=self.context,
            parallel=self.parallel,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            batch=self.batch,
            ubatch=self.ubatch,
            swa_full=swa_full(self.entry.preset),
            cache_ram_bytes=cache_ram_bytes(self.cache_ram_mib),
            on_gpu=gpu,
            embeds=self.embedding,
        )


def recipe(entry: Entry, defaults: Defaults, *, cards: bool = False) -> Recipe:
    """The preset's wishes, completed. ``cards``: its llama.cpp can use some."""
    preset, trained = entry.preset, entry.header.context_length or defaults.context
    parallel = preset.parallel or defaults.parallel
    context = preset.ctx_size or min(defaults.context, trained) * parallel
    if preset.ctx_size == 0:
        context = trained
    embedding = Capability.EMBEDDING in entry.capabilities
    given = dict(preset.flags)
    usual = min(LONGEST_EMBEDDING_BATCH, context // parallel)
    return Recipe(
        entry=entry,
        context=context,
        parallel=parallel,
        cache_type_k=preset.cache_type_k or "f16",
        cache_type_v=preset.cache_type_v or "f16",
        cache_ram_mib=preset.cache_ram or 0,
        embedding=embedding,
        pooling=preset.pooling or ("mean" if embedding and not entry.header.pooling_type else None),
        batch=int(given.get("batch-size") or (usual if embedding else 2048)),
        ubatch=int(given.get("ubatch-size") or (usual if embedding else 512)),
        threads=preset.threads or (None if cards and uses_cards(preset) else defaults.threads),
    )


def server_command(binary: Path, made: Recipe, port: int, split: Split = ()) -> list[str]:
    """The command line of a llama-server binary, for a model that is to lie on those cards."""
    preset = made.entry.preset
    words = [str(binary), "--model", str(made.entry.paths[0]), "--alias", made.entry.name]
    words += ["--host", HOST, "--port", str(port)]
    words += ["--ctx-size", str(made.context), "--parallel", str(made.parallel)]
    words += ["--cache-ram", str(made.cache_ram_mib)]
    words += [] if "swa-checkpoints" in dict(preset.flags) else ["--ctx-checkpoints", CHECKPOINTS]
    words += ["--cache-type-k", made.cache_type_k, "--cache-type-v", made.cache_type_v]
    words += ["--batch-size", str(made.batch), "--ubatch-size", str(made.ubatch)]
    words += ["--embeddings"] if made.embedding else []
    words += ["--pooling", made.pooling] if made.pooling else []
    words += ["--mmproj", str(made.entry.mmproj)] if made.entry.mmproj else []
    words += ["--n-gpu-layers", str(preset.n_gpu_layers)] if preset.n_gpu_layers is not None else []
    words += ["--threads", str(made.threads)] if made.threads else []
    own = ["batch-size", "ubatch-size"]
    if split := _ours(made, split):
        words += _card_flags(made, split)
        own += ["device"]
    return words + preset.arguments(without=own)


def environment(made: Recipe, split: Split = ()) -> dict[str, str]:
    """What the child's environment says besides. Flags go before it, so presets win.

    A model that is handed cards is to lie there whole: llama-server would leave layers in RAM
    where it sees less than 1 GiB to spare. Its projector would go to the first card of all.
    """
    split = _ours(made, split)
    if not split:
        return dict(ORDERED)
    return {**ORDERED, "LLAMA_ARG_FIT": "off", "MTMD_BACKEND_DEVICE": split[0][0].name}


def _ours(made: Recipe, split: Split) -> Split:
    """The cards, in the order that llama.cpp lists them; none where the preset places it."""
    preset = made.entry.preset
    if placed_by(preset) or not uses_cards(preset):
        return ()
    return tuple(sorted(split, key=lambda part: part[0].index))


def _card_flags(made: Recipe, split: Split) -> list[str]:
    """On one card the main GPU is the only one, and so the first."""
    flags = dict(made.entry.preset.flags)
    names = ",".join(card.name for card, _ in split)
    words = ["--device", names]
    words += ["--device-draft", names] if "model-draft" in flags else []
    if len(split) > 1:
        return [*words, "--tensor-split", ",".join(str(part) for part in _parts(split))]
    return words if "split-mode" in flags else [*words, "--split-mode", "none"]


def _parts(split: Split) -> list[int]:
    """The proportions, as whole MiB; 0 would leave a card out."""
    return [max(1, held >> 20) for _, held in split]


def wheel_params(made: Recipe, port: int, split: Split = ()) -> dict[str, object]:
    """The same start as attributes of the xllamacpp wheel's ``CommonParams``.

    Raises ``BackendError`` for a preset flag that the wheel has no attribute for: this model
    cannot be loaded, others can.
    """
    preset = made.entry.preset
    params: dict[str, object] = {
        "model.path": str(made.entry.paths[0]),
        "model_alias": [made.entry.name],
        "hostnames": [HOST],
        "port": port,
        "n_ctx": made.context,
        "n_parallel": made.parallel,
        "cache_ram_mib": made.cache_ram_mib,
        "n_ctx_checkpoints": int(CHECKPOINTS),
        "cache_type_k": _enum("ggml_type", "GGML_TYPE", made.cache_type_k),
        "cache_type_v": _enum("ggml_type", "GGML_TYPE", made.cache_type_v),
        "n_batch": made.batch,
        "n_ubatch": made.ubatch,
        "embedding": made.embedding,
        "ui": False,
    }
    if made.pooling:
        params["pooling_type"] = _enum("llama_pooling_type", "LLAMA_POOLING_TYPE", made.pooling)
    if made.entry.mmproj:
        params["mmproj.path"] = str(made.entry.mmproj)
    if preset.n_gpu_layers is not None:
        layers = preset.n_gpu_layers
        params["n_gpu_layers"] = WHEEL_LAYERS[layers] if isinstance(layers, str) else layers
    if made.threads:
        params["cpuparams.n_threads"] = made.threads
    if split := _ours(made, split):
        params |= _card_params(made, split)
    for flag, value in preset.flags:
        params |= _wheel_param(flag, value, made.entry.name)
    return params


def _card_params(made: Recipe, split: Split) -> dict[str, object]:
    """The wheel cannot leave cards out by name, so they are told by their place."""
    params: dict[str, object] = {"fit_params": False}
    if made.entry.mmproj:
        params["mmproj_device"] = split[0][0].name
    if len(split) == 1:
        mode = _enum("llama_split_mode", "LLAMA_SPLIT_MODE", "none")
        return params | {"split_mode": mode, "main_gpu": split[0][0].index}
    parts = dict(zip((card.index for card, _ in split), _parts(split), strict=True))
    return params | {"tensor_split": [parts.get(i, 0) for i in range(max(parts) + 1)]}


def find_server(named: Path | None) -> Path | None:
    """The llama-server to use: the one named, else the one on PATH, else ``None`` (the wheel).

    Raises ``ConfigError`` when the named one is missing, or when there is neither.
    """
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"ROUTER_LLAMA_SERVER is {named}, and there is no such file.")
        if not os.access(named, os.X_OK):
            raise ConfigError(f"ROUTER_LLAMA_SERVER is {named}, which cannot be executed.")
        return named.resolve()
    if found := shutil.which("llama-server"):
        return Path(found)
    if find_spec("xllamacpp") is None:
        raise ConfigError(
            "No llama.cpp server was found. Put llama-server on PATH, or install the wheel: "
            "pip install 'smarterrouter[llamacpp]'."
        )
    return None


def _enum(kind: str, prefix: str, member: str) -> dict[str, list[str]]:
    return {"enum": [kind, f"{prefix}_{member.upper()}"]}


def _flash(value: str) -> object:
    states = {"on": "enabled", "off": "disabled", "auto": "auto"}
    return _enum("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE", states.get(value, value))


WHEEL_VALUES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "batch-size": ("n_batch", int),
    "ubatch-size": ("n_ubatch", int),
    "n-predict": ("n_predict", int),
    "keep": ("n_keep", int),
    "flash-attn": ("flash_attn_type", _flash),
    "rope-freq-base": ("rope_freq_base", float),
    "rope-freq-scale": ("rope_freq_scale", float),
    "yarn-orig-ctx": ("yarn_orig_ctx", int),
    "chat-template": ("chat_template", str),
    "reasoning-format": (
        "reasoning_format",
        lambda value: _enum("common_reasoning_format", "COMMON_REASONING_FORMAT", value),
    ),
    "main-gpu": ("main_gpu", int),
    "split-mode": (
        "split_mode",
        lambda value: _enum("llama_split_mode", "LLAMA_SPLIT_MODE", value),
    ),
    "tensor-split": ("tensor_split", lambda value: [float(n) for n in re.split("[,/]", value)]),
    "threads-batch": ("cpuparams_batch.n_threads", int),
    "threads-http": ("n_threads_http", int),
    "cache-reuse": ("n_cache_reuse", int),
    "swa-checkpoints": ("n_ctx_checkpoints", int),
    "log-verbosity": ("verbosity", int),
    "seed": ("sampling.seed", int),
    "temperature": ("sampling.temp", float),
    "top-k": ("sampling.top_k", int),
    "top-p": ("sampling.top_p", float),
    "min-p": ("sampling.min_p", float),
    "repeat-penalty": ("sampling.penalty_repeat", float),
    "presence-penalty": ("sampling.penalty_present", float),
    "frequency-penalty": ("sampling.penalty_freq", float),
}
WHEEL_SWITCHES: Mapping[str, tuple[str, bool]] = {
    "swa-full": ("swa_full", True),
    "jinja": ("use_jinja", True),
    "no-jinja": ("use_jinja", False),
    "kv-unified": ("kv_unified", True),
    "no-kv-unified": ("kv_unified", False),
    "context-shift": ("ctx_shift", True),
    "no-context-shift": ("ctx_shift", False),
    "warmup": ("warmup", True),
    "no-warmup": ("warmup", False),
    "metrics": ("endpoint_metrics", True),
    "no-kv-offload": ("no_kv_offload", True),
    "cont-batching": ("cont_batching", True),
    "no-cont-batching": ("cont_batching", False),
    "cache-prompt": ("cache_prompt", True),
    "no-cache-prompt": ("cache_prompt", False),
}


def _wheel_param(flag: str, value: str | None, model: str) -> dict[str, object]:
    if value is None and flag in WHEEL_SWITCHES:
        attribute, state = WHEEL_SWITCHES[flag]
        return {attribute: state}
    if value is not None and flag in WHEEL_VALUES:
        attribute, convert = WHEEL_VALUES[flag]
        try:
            return {attribute: convert(value)}
        except ValueError:
            raise BackendError(
                f"The preset of {model} sets '{flag}' to '{value}', which is not a number."
            ) from None
    raise BackendError(
        f"The preset of {model} sets '{flag}', which the xllamacpp wheel cannot. Put a "
        "llama-server on PATH: it takes every flag."
    )
