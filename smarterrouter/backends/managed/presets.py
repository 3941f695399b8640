"""Reads llama.cpp's own preset files (``--models-preset``): which flags a model is started with.

Decides how keys, sections and booleans are read, so that one file serves llama-server and
smarterrouter alike; not what a model gets where the file is silent. The syntax is that of
llama.cpp: keys are flags in any spelling, ``;`` and ``#`` begin a comment wherever they stand,
and of two lines for the same flag the later one counts. A long flag that is not known here may be
one of a newer llama-server, and is handed on.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smarterrouter.errors import ConfigError

log = logging.getLogger(__name__)

# llama-server's flags: `canonical,other spellings!negations=@environment`. `=` takes a value;
# `!` alone is `no-` and the canonical name; `@` alone is LLAMA_ARG_ and the canonical name,
# `@:` begins a name without that prefix.
_FLAG_TABLE = """
threads,t=@ threads-batch,tb= cpu-mask,C= cpu-range,Cr= cpu-strict= prio= poll=
cpu-mask-batch,Cb= cpu-range-batch,Crb= cpu-strict-batch= prio-batch= poll-batch=
ctx-size,c=@ n-predict,n,predict=@ batch-size,b=@BATCH ubatch-size,ub=@UBATCH keep=
swa-full@ flash-attn,fa=@ perf!@ escape,e! rope-scaling=@ROPE_SCALING_TYPE rope-scale=@
rope-freq-base=@ rope-freq-scale=@ yarn-orig-ctx=@ yarn-ext-factor=@ yarn-attn-factor=@
yarn-beta-slow=@ yarn-beta-fast=@ kv-offload,kvo!no-kv-offload,nkvo@ repack!no-repack,nr@
no-host@ cache-type-k,ctk=@ cache-type-v,ctv=@ defrag-thold,dt=@ rpc=@ load-mode,lm=@
lazy-mode,lzm=@ numa=@ device,dev=@ override-tensor,ot=@ cpu-moe,cmoe@ n-cpu-moe,ncmoe=@
n-cpu-ffn,ncffn=@ n-gpu-layers,ngl,gpu-layers=@ split-mode,sm=@ tensor-split,ts=@
main-gpu,mg=@ fit=@ fit-target,fitt=@ fit-ctx,fitc=@ check-tensors override-kv=
op-offload! lora= lora-scaled= control-vector= control-vector-scaled= model,m=@
model-url,mu=@ docker-repo,dr=@ hf-repo,hf,hfr=@ hf-file,hff=@ hf-token,hft=@:HF_TOKEN
log-disable log-file=@ log-jsonl!@ log-colors=@ log-verbose,v,verbose offline@
log-verbosity,lv,verbosity=@ log-prefix!@ log-timestamps!@
cache-type-k-draft,spec-draft-type-k,ctkd=@SPEC_DRAFT_CACHE_TYPE_K
cache-type-v-draft,spec-draft-type-v,ctvd=@SPEC_DRAFT_CACHE_TYPE_V samplers= seed,s=
sampling-seq,sampler-seq= ignore-eos temperature,temp=@ top-k=@ top-p=@ min-p=@
top-n-sigma,top-nsigma= xtc-probability= xtc-threshold= typical-p,typical= repeat-last-n=
repeat-penalty=@ presence-penalty=@ frequency-penalty=@ dry-multiplier= dry-base=
dry-allowed-length= dry-penalty-last-n= dry-sequence-breaker= adaptive-target=
adaptive-decay= dynatemp-range= dynatemp-exp= mirostat= mirostat-lr= mirostat-ent=
logit-bias,l= grammar= grammar-file= json-schema,j= json-schema-file,jf=
backend-sampling,bs@ lookup-cache-static,lcs= lookup-cache-dynamic,lcd=
kv-unified-per-slot=@ swa-checkpoints,ctxcp,ctx-checkpoints=@CTX_CHECKPOINTS
checkpoint-min-step,cms=@CHECKPOINT_MIN_SPACING_NT cache-ram,cram=@
kv-unified,kvu!no-kv-unified,no-kvu@ cache-idle-slots!@ context-shift!@ reverse-prompt,r=
special,sp warmup! spm-infill pooling=@ parallel,np=@N_PARALLEL
cont-batching,cb!no-cont-batching,nocb@ mmproj,mm=@ mmproj-url,mmu=@
mmproj-auto!no-mmproj-auto,no-mmproj@ mmproj-offload!@
mmproj-device,mmdev=@:MTMD_BACKEND_DEVICE image-min-tokens=@ image-max-tokens=@
mtmd-batch-max-tokens=@ video-fps=@ video-timestamp-interval=@ video-ffmpeg-dir=@
alias,a=@ tags=@ embd-normalize= host=@ port=@ reuse-port@ path=@STATIC_PATH
cors-origins=@ cors-methods=@ cors-headers=@ cors-credentials!@ api-prefix=@
webui-config,ui-config=@UI_CONFIG webui-config-file,ui-config-file=@UI_CONFIG_FILE
webui-mcp-proxy,ui-mcp-proxy!no-webui-mcp-proxy,no-ui-mcp-proxy@UI_MCP_PROXY tools=@
tools-runtime=@ mcp-servers-config=@ mcp-servers-json=@ agent,ag!no-agent,no-ag@
webui,ui!no-webui,no-ui@UI embeddings,embedding@ reranking,rerank@ api-key=@:LLAMA_API_KEY
api-key-file=@ ssl-key-file=@ ssl-cert-file=@ chat-template-kwargs=@ timeout,to=@
sse-ping-interval=@ threads-http=@ cache-prompt!@ cache-reuse=@ metrics@ENDPOINT_METRICS
props@ENDPOINT_PROPS slots!@ENDPOINT_SLOTS slot-save-path= media-path= models-dir=@
models-preset=@ models-max=@ models-autoload!@ jinja!@ reasoning-format=@THINK
reasoning,rea=@ reasoning-effort=@ reasoning-budget=@THINK_BUDGET
reasoning-budget-message=@THINK_BUDGET_MESSAGE reasoning-preserve!@ chat-template=@
chat-template-file=@ skip-chat-parsing!@ prefill-assistant!@ slot-prompt-similarity,sps=
lora-init-without-apply sleep-idle-seconds= log-prompts-dir=
hf-repo-draft,spec-draft-hf,hfd,hfrd=@SPEC_DRAFT_HF_REPO
threads-draft,spec-draft-threads,td= threads-batch-draft,spec-draft-threads-batch,tbd=
cpu-mask-draft,spec-draft-cpu-mask,Cd= cpu-range-draft,spec-draft-cpu-range,Crd=
cpu-strict-draft,spec-draft-cpu-strict= prio-draft,spec-draft-prio=
poll-draft,spec-draft-poll= cpu-mask-batch-draft,spec-draft-cpu-mask-batch,Cbd=
cpu-strict-batch-draft,spec-draft-cpu-strict-batch=
prio-batch-draft,spec-draft-prio-batch= poll-batch-draft,spec-draft-poll-batch=
override-tensor-draft,spec-draft-override-tensor,otd=
cpu-moe-draft,spec-draft-cpu-moe,cmoed@SPEC_DRAFT_CPU_MOE
n-cpu-moe-draft,spec-draft-n-cpu-moe,spec-draft-ncmoe,ncmoed=@SPEC_DRAFT_N_CPU_MOE
spec-draft-n-max=@ spec-draft-n-min=@ spec-synth-len=@ spec-synth-rates=@
draft-p-split,spec-draft-p-split=@SPEC_DRAFT_P_SPLIT
draft-p-min,spec-draft-p-min=@SPEC_DRAFT_P_MIN spec-draft-backend-sampling!@
device-draft,spec-draft-device,devd=
n-gpu-layers-draft,spec-draft-ngl,ngld,gpu-layers-draft=@
model-draft,spec-draft-model,md=@SPEC_DRAFT_MODEL spec-type=@ spec-ngram-mod-n-min=
spec-ngram-mod-n-max= spec-ngram-mod-n-match= spec-ngram-simple-size-n=
spec-ngram-simple-size-m= spec-ngram-simple-min-hits= spec-ngram-map-k-size-n=
spec-ngram-map-k-size-m= spec-ngram-map-k-min-hits= spec-ngram-map-k4v-size-n=
spec-ngram-map-k4v-size-m= spec-ngram-map-k4v-min-hits=
spec-default mmap!@ mlock@ load-on-startup stop-timeout= dedup-cache-models
"""

# The daemon says these itself, or they concern llama-server's own router mode.
_ROUTERS_OWN = """
host port reuse-port alias api-key api-key-file api-prefix ssl-key-file ssl-cert-file hf-token
log-colors models-dir models-preset models-max models-autoload sleep-idle-seconds
dedup-cache-models
"""
_DOWNLOADS = ("hf-repo", "hf-file", "hf-repo-draft", "model-url", "docker-repo", "mmproj-url")
_BATCHES = ("batch-size", "ubatch-size")
_TRUE, _FALSE = ("on", "enabled", "true", "1"), ("off", "disabled", "false", "0")
_OPPOSITE = {"true": "false", "false": "true"}
_LONG_FLAG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+|[a-z]{4,}")
_MAY_DOWNLOAD = re.compile(r"hf-.+|.+-(url|repo|hf|default)")
_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


@dataclass(frozen=True, slots=True)
class _Flag:
    name: str
    negation: str | None
    takes_value: bool


@dataclass(frozen=True, slots=True)
class Preset:
    """What a model is to be started with; ``None`` and no entry mean that the file is silent.

    ``flags`` holds what has no field of its own, in the long spelling of the command line; the
    value of a flag that takes none is ``None``. ``cache_ram`` is MiB, ``stop_timeout`` seconds.
    ``parallel`` is ``None`` and not -1 where llama.cpp is to choose.
    """

    model: Path | None = None
    mmproj: Path | None = None
    mmproj_auto: bool = True
    ctx_size: int | None = None
    parallel: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    cache_ram: int | None = None
    n_gpu_layers: int | str | None = None
    threads: int | None = None
    embedding: bool | None = None
    pooling: str | None = None
    load_on_startup: bool = False
    stop_timeout: float | None = None
    flags: tuple[tuple[str, str | None], ...] = ()

    def arguments(self, *, without: Collection[str] = ()) -> list[str]:
        """``flags`` as they stand on a command line; the fields are the caller's to add."""
        words = []
        for name, value in self.flags:
            if name not in without:
                words += [f"--{name}"] if value is None else [f"--{name}", value]
        return words


@dataclass(frozen=True, slots=True)
class Presets:
    """A whole preset file; ``sections`` are the models it names, in the file's order."""

    path: Path
    sections: tuple[str, ...] = ()
    _common: Mapping[str, str] = field(default_factory=dict)
    _own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def for_model(self, name: str) -> Preset:
        """The settings of every model, overridden by those of the section ``[name]``."""
        settings = {**self._common, **self._own.get(_canonical_section(name), {})}
        return _preset(settings, lambda file: _located(file, self.path))


def read_presets(path: Path) -> Presets:
    """Reads the file; a `ConfigError` names the line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"Cannot read the presets in {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    sections: dict[str, dict[str, str]] = {}
    current: str | None = None
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        where = f"{path}, line {number}"
        content = re.split("[;#]", line, maxsplit=1)[0].strip()
        if heading := re.fullmatch(r"\[\s*([^]]+?)\s*\]", content):
            current = _canonical_section(heading[1])
            if current in sections:
                raise ConfigError(f"{where}: [{current}] appears twice; merge the two sections.")
            sections[current] = {}
        elif content:
            _read_line(content, where, current, sections)
    common = sections.pop("*", {})
    return Presets(path, tuple(sections), common, sections)


def read_arguments(words: Sequence[str], folder: Path | None = None) -> Preset:
    """The same settings as they stand on a llama-server's command line.

    ``folder`` is what its relative paths count from. What makes no sense is left out.
    """
    settings: dict[str, str] = {}
    for i, word in enumerate(words):
        name = _SPELLINGS.get(word.lstrip("-")) if word.startswith("-") else None
        if name is None or name in _ROUTERS_OWN.split():
            continue
        if not _FLAGS[name].takes_value:
            settings[name] = _boolean(word.lstrip("-"), "true", word)
        elif words[i + 1 : i + 2]:
            with contextlib.suppress(ConfigError):
                _check(name, words[i + 1], word)
                settings[name] = words[i + 1]
    return _preset(settings, lambda file: folder / file if folder else file)


def _canonical_section(name: str) -> str:
    """llama.cpp writes the part after a colon (a quantization) in capitals."""
    model, colon, tag = name.rpartition(":")
    return f"{model}:{tag.upper()}" if colon else name


def _read_line(
    content: str, where: str, section: str | None, sections: dict[str, dict[str, str]]
) -> None:
    found = re.fullmatch(r"([A-Za-z_][\w.-]*)\s*=\s*(.*)", content)
    if not found:
        raise ConfigError(f"{where}: {content!r} is neither [section] nor key = value.")
    key, value = found[1], found[2]
    if key == "version":
        if value != "1":
            raise ConfigError(f"{where}: version {value} is not known; write version = 1.")
    elif section is None:
        raise ConfigError(f"{where}: {key} stands before any section; write [*] above it.")
    else:
        where = f"{where}, [{section}] {key}"
        name, value = _resolve(key, value, where)
        if name not in _ROUTERS_OWN.split():
            _check(name, value, where)
            sections[section][name] = value


def _resolve(key: str, value: str, where: str) -> tuple[str, str]:
    """The canonical name of the flag that ``key`` spells, and what it is set to."""
    name = _SPELLINGS.get(key)
    if name in _DOWNLOADS or (name is None and _MAY_DOWNLOAD.fullmatch(key)):
        raise ConfigError(f"{where}: smarterrouter downloads nothing; use model = PATH.")
    if name is not None:
        return name, value if _FLAGS[name].takes_value else _boolean(key, value, where)
    close = difflib.get_close_matches(key, _SPELLINGS, n=1)
    hint = f"did you mean {close[0]}?" if close else "see llama-server --help."
    if not _LONG_FLAG.fullmatch(key):
        raise ConfigError(f"{where}: llama-server has no such option; {hint}")
    log.warning("%s: not an option known here, so llama-server is to judge; %s", where, hint)
    if key.startswith("no-") and value in _OPPOSITE:
        return key.removeprefix("no-"), _OPPOSITE[value]
    return key, value


def _boolean(key: str, value: str, where: str) -> str:
    """``true`` or ``false`` for the flag itself, whichever of its spellings ``key`` is."""
    if value.lower() in _TRUE or not value:
        return "false" if key in _NEGATIONS else "true"
    if value.lower() in _FALSE:
        return "true" if key in _NEGATIONS else "false"
    raise ConfigError(f"{where}: {value!r} is neither true nor false.")


def _check(name: str, value: str, where: str) -> None:
    """Only what is read here is checked: what else a flag takes, llama-server knows."""
    reads = _FIELDS[name][1] if name in _FIELDS else _whole if name in _BATCHES else None
    if reads is not None:
        try:
            reads(value)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
    elif not value:
        raise ConfigError(f"{where}: the value is missing.")


def _preset(settings: Mapping[str, str], located: Callable[[Path], Path]) -> Preset:
    fields: dict[str, Any] = {}
    flags: list[tuple[str, str | None]] = []
    for name, value in settings.items():
        if name in _FIELDS:
            attribute, convert = _FIELDS[name]
            fields[attribute] = convert(value)
        else:
            flags += _words(_FLAGS.get(name) or _unknown(name, value), value)
    for own_file in {"model", "mmproj"} & fields.keys():
        fields[own_file] = located(fields[own_file])
    return Preset(**fields, flags=tuple(flags))


def _unknown(name: str, value: str) -> _Flag:
    """A flag of a newer llama-server: one without a value if it is set to true or false."""
    return _Flag(name, f"no-{name}", value not in _OPPOSITE)


def _words(flag: _Flag, value: str) -> list[tuple[str, str | None]]:
    if flag.takes_value:
        return [(flag.name, value)]
    name = flag.name if value == "true" else flag.negation
    return [(name, None)] if name else []


def _located(file: Path, presets: Path) -> Path:
    """llama.cpp starts from the working directory; a daemon's is rarely meant, so the preset
    file's own folder is tried too."""
    file = file.expanduser()
    beside = presets.parent / file
    return beside if not file.exists() and beside.exists() else file


def _whole(value: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", value):
        raise ValueError(f"{value!r} is not a whole number.")
    return int(value)


def _slots(value: str) -> int | None:
    slots = _whole(value)
    if slots == 0:
        raise ValueError("a model needs at least one slot; write 1 or more.")
    return slots if slots > 0 else None


def _gpu_layers(value: str) -> int | str:
    return value if value in ("auto", "all") else _whole(value)


def _cache_type(value: str) -> str:
    if value not in _CACHE_TYPES:
        raise ValueError(f"{value!r} is not one of {', '.join(_CACHE_TYPES)}.")
    return value


def _file(value: str) -> Path:
    if not value:
        raise ValueError("the path is missing.")
    return Path(value)


def _word(value: str) -> str:
    if not value:
        raise ValueError("the value is missing.")
    return value


def _truth(value: str) -> bool:
    return value == "true"


# Which flags have a field of `Preset`, and how their value is read.
_FIELDS: dict[str, tuple[str, Callable[[str], object]]] = {
    "model": ("model", _file),
    "mmproj": ("mmproj", _file),
    "mmproj-auto": ("mmproj_auto", _truth),
    "ctx-size": ("ctx_size", _whole),
    "parallel": ("parallel", _slots),
    "cache-type-k": ("cache_type_k", _cache_type),
    "cache-type-v": ("cache_type_v", _cache_type),
    "cache-ram": ("cache_ram", _whole),
    "n-gpu-layers": ("n_gpu_layers", _gpu_layers),
    "threads": ("threads", _whole),
    "embeddings": ("embedding", _truth),
    "pooling": ("pooling", _word),
    "load-on-startup": ("load_on_startup", _truth),
    "stop-timeout": ("stop_timeout", lambda value: float(_whole(value))),
}


def _read_table() -> tuple[dict[str, _Flag], dict[str, str], frozenset[str]]:
    """The flags by canonical name, every spelling's canonical name, and which negate."""
    flags: dict[str, _Flag] = {}
    spellings: dict[str, str] = {}
    negations: set[str] = set()
    for row in _FLAG_TABLE.split():
        row, at, environment = row.partition("@")
        row, value = row.removesuffix("="), row.endswith("=")
        positive, bang, negative = row.partition("!")
        names = positive.split(",")
        name = names[0]
        against = (negative.split(",") if negative else [f"no-{name}"]) if bang else []
        if at:
            plain = environment or name.upper().replace("-", "_")
            names.append(plain[1:] if plain.startswith(":") else f"LLAMA_ARG_{plain}")
            against += [f"LLAMA_ARG_NO_{plain}"] if bang else []
        flags[name] = _Flag(name, against[0] if against else None, value)
        negations.update(against)
        spellings |= dict.fromkeys([*names, *against], name)
    return flags, spellings, frozenset(negations)


_FLAGS, _SPELLINGS, _NEGATIONS = _read_table()
