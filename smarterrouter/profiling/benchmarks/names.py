"""What the name of a model says: family, version, size, kind, quantisation, and the rest.

Decides how a name is read, be it an Ollama tag, the stem of a GGUF file, a Hugging Face id or a
row of a leaderboard. Which names mean the same model is decided in ``matching``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from msgspec import Struct

Tuning = Literal["instruct", "base"]

LONGEST = 200
"""Characters of a name that are looked at."""

TUNINGS: dict[str, Tuning] = {
    "instruct": "instruct",
    "inst": "instruct",
    "it": "instruct",
    "chat": "instruct",
    "base": "base",
    "text": "base",
    "pt": "base",
}
VARIANTS = {
    "coder": "coder",
    "code": "coder",
    "math": "math",
    "vision": "vision",
    "vl": "vision",
    "thinking": "thinking",
    "reasoning": "thinking",
    "embed": "embedding",
    "embedding": "embedding",
}
GRADES = frozenset({"nano", "tiny", "micro", "mini", "lite", "small", "medium", "large"})
PACKAGING = frozenset(
    {
        "gguf",
        "ggml",
        "mlx",
        "latest",
        "hf",
        "unsloth",
        "bnb",
        "imat",
        "imatrix",
        "i1",
        "ud",
        "dense",
        "dynamic",
        "c4ai",
    }
)
"""Words about the file rather than the model."""

# fmt: off
FAMILIES = frozenset((
    "aya", "baichuan", "bloom", "chatglm", "codegemma", "codellama", "codestral", "command",
    "dbrx", "deepseek", "devstral", "ernie", "exaone", "falcon", "gemma", "glm", "gpt",
    "granite", "hunyuan", "internlm", "jamba", "kimi", "llama", "magistral", "mathstral",
    "minimax", "ministral", "mistral", "mixtral", "mpt", "nemotron", "olmo", "openchat", "orion",
    "phi", "pixtral", "qwen", "qwq", "rwkv", "smollm", "solar", "stablelm", "starcoder",
    "starling", "tinyllama", "vicuna", "yi", "zephyr",
))
# fmt: on

_OWNER = re.compile(
    r"^(?:(?:qwen|google|meta-llama|mistralai|deepseek-ai|microsoft|nvidia|ibm-granite|allenai|"
    r"01-ai|thudm|zai-org|openai|cohereforai|coherelabs|tiiuae|huggingfacetb|internlm|"
    r"bartowski|thebloke|unsloth|mradermacher|lmstudio-community)_+|(?:meta|nvidia)-)"
)
_FILE = re.compile(r"(?:-\d{5}-of-\d{5})?\.(?:gguf|ggml|bin|safetensors)$")
_QUANTIZATION = re.compile(
    r"(?<![a-z0-9])(?:"
    r"i?q\d(?:[_-](?:k|\d|nl|xxs|xs|s|m|l)(?:[_-](?:xxs|xs|s|m|l|xl|\d)(?:[_-]\d)?)?)?"
    r"|tq\d_\d|q\d+f\d+(?:_\d)?|bf16|fp?16|fp?32|fp8|nvfp4|mxfp4|int[48]|[2-8]-?bits?|w\d+a\d+"
    r"|gptq|awq|exl[23]|bfloat16|float16"
    r")(?![a-z0-9])"
)
_UNDERSCORED_VERSION = re.compile(r"(?<=[a-z-]\d)_(?=\d(?:[^0-9bkm.]|$))")
_UNDERSCORED_SIZE = re.compile(r"(?<![a-z0-9.])(\d)_(\d+b)(?![a-z0-9])")
_SEPARATORS = re.compile(r"[^a-z0-9.]+")
_SIZE = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)(b|m)")
_EXPERTS = re.compile(r"\d{1,3}x\d{1,3}(?:\.\d{1,2})?b|[ae]\d{1,3}(?:\.\d{1,2})?b|\d{1,3}e")
_CONTEXT = re.compile(r"\d{1,4}k|\dm")
_RELEASE = re.compile(r"\d{4}|\d{6}|\d{8}")
_VERSION = re.compile(r"v?(\d{1,2}(?:\.\d{1,2}){0,2}[a-z]?)")
_GLUED = re.compile(r"([a-z]{2,})(\d{1,2}(?:\.\d{1,2}){0,2}[a-z]?)(vl)?")


class ModelName(Struct, frozen=True):
    """A name taken apart. What it does not say is ``None`` or empty.

    ``family`` is the first family the name has, or else its first word; ``words`` are all the
    others with their versions (``hermes3``, ``distill``): whoever has other words is another
    model. ``size`` is in billions. ``experts`` is how a mixture is written: ``8x7b``, ``a3b``.
    ``grade`` is a size in words, ``release`` a date in digits, ``context`` a length like ``128k``.
    """

    text: str
    family: str
    version: str | None = None
    size: float | None = None
    experts: str | None = None
    grade: str | None = None
    tuning: Tuning | None = None
    variant: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    release: str | None = None
    context: str | None = None
    quantization: str | None = None

    @property
    def line(self) -> str:
        """Family, version, words and grade: what models of one name but several sizes share."""
        parts = [self.family + (self.version or ""), *sorted(self.words | self.variant)]
        return "-".join(parts + ([self.grade] if self.grade else []))


@lru_cache(maxsize=65536)
def parse(text: str) -> ModelName:
    """Take a name apart; any text at all gives a ``ModelName``."""
    stem = _stem(text)
    quantization = _QUANTIZATION.search(stem)
    found = _Found()
    for token in _SEPARATORS.split(_dotted(_QUANTIZATION.sub(" ", stem))):
        if token := token.strip("."):
            found.take(token)
    return found.name(text, quantization.group().replace("-", "_") if quantization else None)


def _stem(text: str) -> str:
    """The name without its owner, folder and file type, in small letters."""
    last = text[-LONGEST:].strip().lower().replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _OWNER.sub("", _FILE.sub("", last))


def _dotted(stem: str) -> str:
    """``internlm2_5`` and ``1_6b`` with a dot, as others write them."""
    return _UNDERSCORED_SIZE.sub(r"\1.\2", _UNDERSCORED_VERSION.sub(".", stem))


@dataclass(slots=True)
class _Found:
    """What was found so far, token by token."""

    words: dict[str, str | None] = field(default_factory=dict)
    last: str | None = None
    """The word that a version met now belongs to."""
    fresh: bool = False
    """Whether the token before was that word's version."""
    facts: dict[str, str] = field(default_factory=dict)
    size: float | None = None
    tuning: Tuning | None = None
    variant: set[str] = field(default_factory=set)

    def take(self, token: str) -> None:
        fresh, self.fresh = self.fresh, False
        if token in PACKAGING:
            return
        if token in TUNINGS:
            self.tuning = self.tuning or TUNINGS[token]
        elif token in VARIANTS:
            self.variant.add(VARIANTS[token])
        elif token in GRADES and "grade" not in self.facts:
            self.facts["grade"] = token
        elif not self._takes_figure(token):
            self._take_word(token, fresh)

    def _takes_figure(self, token: str) -> bool:
        """Whether the token is a size or the like, of which a name has but one."""
        if self.size is None and (size := _SIZE.fullmatch(token)):
            self.size = float(size[1]) / (1.0 if size[2] == "b" else 1000.0)
            return True
        for fact, pattern in (("experts", _EXPERTS), ("context", _CONTEXT), ("release", _RELEASE)):
            if fact not in self.facts and pattern.fullmatch(token):
                self.facts[fact] = token
                return True
        return False

    def _take_word(self, token: str, fresh: bool) -> None:
        if version := _VERSION.fullmatch(token):
            self._take_version(version[1], fresh)
        elif glued := _GLUED.fullmatch(token):
            self._add(glued[1])
            self._take_version(glued[2], fresh=False)
            if glued[3]:
                self.variant.add("vision")
        else:
            self._add(token)

    def _add(self, word: str) -> None:
        self.words.setdefault(word, None)
        self.last = word

    def _take_version(self, version: str, fresh: bool) -> None:
        version = version.removesuffix(".0")
        had = self.words.get(self.last) if self.last else None
        if self.last and had is None:
            self.words[self.last] = version
            self.fresh = True
        elif self.last and fresh and len(version) == 1:  # 3-1 for 3.1
            self.words[self.last] = f"{had}.{version}"
        elif had != version:
            self.words.setdefault(f"v{version}", None)

    def name(self, text: str, quantization: str | None) -> ModelName:
        family = next((w for w in self.words if w in FAMILIES), next(iter(self.words), ""))
        words = {w + (v or "") for w, v in self.words.items() if w != family}
        return ModelName(
            text,
            family,
            version=self.words.get(family),
            size=self.size,
            experts=self.facts.get("experts"),
            grade=self.facts.get("grade"),
            tuning=self.tuning,
            variant=frozenset(self.variant),
            words=frozenset(words),
            release=self.facts.get("release"),
            context=self.facts.get("context"),
            quantization=quantization,
        )
