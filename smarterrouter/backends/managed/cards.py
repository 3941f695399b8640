"""Which of our devices are the cards that a llama.cpp names, and which of them a preset leaves.

Decides by the number in the name where that says it (``CUDA1`` is the second card of NVIDIA), and
by the description elsewhere. Pure: ``inventory`` asks, ``recipe`` makes flags of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from smarterrouter.backends.managed.presets import Preset
from smarterrouter.domain.devices import HOST, GpuDevice

ORDERED = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Has CUDA number its cards as NVIDIA's own tools do, and not the fastest first."""

_NUMBERED = {"CUDA": "nvidia", "ROCm": "amd", "SYCL": "intel", "MTL": "apple", "Metal": "apple"}
_HIDING = {"CUDA": "CUDA_VISIBLE_DEVICES", "ROCm": "HIP_VISIBLE_DEVICES"}
_LIBRARIES = ("BLAS", "zDNN", "ZenDNN", "CPU")
"""What llama.cpp lists besides cards: libraries that compute in RAM."""

_LINE = re.compile(r"^ +(\S+): (.*) \(\d+ MiB, \d+ MiB free\)$", re.MULTILINE)
_NAME = re.compile(r"([A-Za-z]+)(\d*)")
_MAKERS = {
    "nvidia": "nvidia", "geforce": "nvidia", "quadro": "nvidia", "tesla": "nvidia",
    "amd": "amd", "radeon": "amd", "navi": "amd", "intel": "intel", "arc": "intel",
    "apple": "apple",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Card:
    """A card as llama.cpp lists it; ``index`` is its place among those it would use by itself."""

    name: str
    description: str
    index: int


Split = tuple[tuple[Card, int], ...]
"""The cards that a model is to lie on, and the bytes on each; empty: as llama.cpp decides."""


def read_list(text: str) -> tuple[Card, ...]:
    """The answer to ``llama-server --list-devices``. Raises ``ValueError`` if it is none."""
    _, listed, below = text.partition("Available devices:\n")
    if not listed:
        raise ValueError("it does not list devices")
    return _cards(_LINE.findall(below))


def read_told(items: Sequence[Mapping[str, str]]) -> tuple[Card, ...]:
    """The wheel's listing: ``name``, ``description``, ``type`` (ggml's) and ``device_id``.

    As llama.cpp chooses by itself: one card is used through one library only, and integrated
    ones where there is nothing else.
    """
    cards = [item for item in items if item["type"].endswith("_GPU")]
    cards = cards or [item for item in items if item["type"].endswith("_IGPU")]
    once = {item["device_id"] or item["name"]: item for item in reversed(cards)}
    kept = [item for item in cards if once[item["device_id"] or item["name"]] is item]
    return _cards((item["name"], item["description"]) for item in kept)


def _cards(listed: Iterable[tuple[str, str]]) -> tuple[Card, ...]:
    found = [(name, about) for name, about in listed if _kind(name) not in _LIBRARIES]
    return tuple(Card(name, about, i) for i, (name, about) in enumerate(found))


def _kind(name: str) -> str:
    known = _NAME.fullmatch(name)
    return known[1] if known else name


def matched(
    cards: Iterable[Card], devices: Sequence[GpuDevice], environment: Mapping[str, str]
) -> dict[str, Card]:
    """Which card each device (by id) is. Of two names for one device the first counts.

    1. A numbered name is the device of its vendor with that number. ``environment`` may hide
       cards from llama.cpp, which then counts only the rest. AMD's and Intel's libraries may pass
       over a card by themselves, an integrated one mostly: then their numbers say nothing.
    2. Any other name goes to the device with the most words in common, of the same maker; and to
       none if that maker's cards have numbered names too.
    """
    found: dict[str, Card] = {}
    unnumbered, told = [], set()
    cards = tuple(cards)
    for card in cards:
        number = _number(card, environment)
        if number is None or _passes_over(_kind(card.name), cards, devices, environment):
            unnumbered.append(card)
            continue
        vendor = _NUMBERED[_kind(card.name)]
        told.add(vendor)
        for device in devices:
            if device.vendor == vendor and _place(device) == number:
                found.setdefault(device.id, card)
    for device, card in _alike(unnumbered, [d for d in devices if d.vendor not in told]):
        if device.id not in found and card not in found.values():
            found[device.id] = card
    return found


def _number(card: Card, environment: Mapping[str, str]) -> int | None:
    """Which card of its vendor this is, from 0; ``None`` where the name does not say."""
    known = _NAME.fullmatch(card.name)
    if not known or known[1] not in _NUMBERED:
        return None
    number = int(known[2] or 0)
    shown = environment.get(_HIDING.get(known[1], ""), "").replace(" ", "")
    if not shown:
        return number
    left = shown.split(",")
    return int(left[number]) if number < len(left) and left[number].isdigit() else None


def _passes_over(
    kind: str, cards: Sequence[Card], devices: Sequence[GpuDevice], environment: Mapping[str, str]
) -> bool:
    if kind not in ("ROCm", "SYCL") or environment.get(_HIDING.get(kind, "")):
        return False
    own = [device for device in devices if device.vendor == _NUMBERED[kind]]
    return len(own) != sum(_kind(card.name) == kind for card in cards)


def _place(device: GpuDevice) -> int:
    digits = re.search(r"\d+$", device.id)
    return int(digits[0]) if digits else 0


def _alike(cards: Sequence[Card], devices: Sequence[GpuDevice]) -> Iterator[tuple[GpuDevice, Card]]:
    """Pairs of one maker, the most alike first."""
    pairs = [
        (-len(_words(card.description) & _words(device.name)), i, j)
        for i, card in enumerate(cards)
        for j, device in enumerate(devices)
        if _maker(card) == device.vendor
    ]
    for _, i, j in sorted(pairs):
        yield devices[j], cards[i]


def _maker(card: Card) -> str | None:
    by_kind = _NUMBERED.get(_kind(card.name))
    words = re.findall("[a-z]+", card.description.lower())
    return by_kind or next((_MAKERS[word] for word in words if word in _MAKERS), None)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))


def reach(
    preset: Preset,
    cards: tuple[Card, ...] | None,
    found: Mapping[str, Card],
    devices: Sequence[GpuDevice],
) -> tuple[str, ...]:
    """The ids of the devices that the model may lie on; empty where nobody knows.

    ``cards`` is ``None`` while llama.cpp has not said; ``found`` is what ``matched`` says.

    1. Where it can or may use no card, that is RAM.
    2. Where nobody has said whether it can, that is RAM if there is no card.
    3. Else the cards that the preset leaves.
    """
    host = tuple(device.id for device in devices if device.vendor == HOST)
    if cards == () or not uses_cards(preset):
        return host
    if cards is None:
        return host if len(host) == len(devices) else ()
    left = _left(preset, cards)
    return tuple(device.id for device in devices if found.get(device.id) in left)


def reach_unasked(preset: Preset, devices: Sequence[GpuDevice]) -> tuple[str, ...]:
    """The same where nobody can ask llama.cpp: every card, but those that its flags leave out."""
    host = tuple(device.id for device in devices if device.vendor == HOST)
    every = tuple(device for device in devices if device.vendor != HOST)
    if not every or not uses_cards(preset):
        return host
    names = (dict(preset.flags).get("device") or "").split(",")
    named = matched(_cards((name, "") for name in names), every, {})
    return tuple(device.id for device in every if not named or device.id in named)


def uses_cards(preset: Preset) -> bool:
    """Whether the preset lets the model use a card at all."""
    return preset.n_gpu_layers != 0 and dict(preset.flags).get("device") != "none"


def placed_by(preset: Preset) -> bool:
    """Whether the preset itself says how much goes where, so that nobody else may."""
    flags = dict(preset.flags)
    return bool(flags.keys() & {"tensor-split", "main-gpu"}) or flags.get("split-mode") == "none"


def _left(preset: Preset, cards: tuple[Card, ...]) -> tuple[Card, ...]:
    flags = dict(preset.flags)
    named = (flags.get("device") or "").split(",")
    if named != [""]:
        by_name = {card.name: card for card in cards}
        cards = tuple(by_name[name] for name in named if name in by_name)
    if flags.get("split-mode") == "none":
        main = flags.get("main-gpu") or "0"
        return cards[int(main) :][:1] if main.isdigit() else cards
    if parts := re.split("[,/]", flags.get("tensor-split") or ""):
        nothing = {i for i, part in enumerate(parts) if re.fullmatch(r"0*\.?0*", part) and part}
        cards = tuple(card for i, card in enumerate(cards) if i not in nothing)
    return cards
