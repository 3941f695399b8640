"""Another machine's devices, as something that runs there tells of them over HTTP.

Decides who is telling, by what it tells and not by a setting:

1. JSON with ``devices``: another smarterrouter (``/admin/vram``). Devices that it sees on further
   machines are left out: whoever wants them asks those.
2. Prometheus text with the metrics of one of ``EXPORTERS``: NVIDIA's dcgm-exporter, the
   nvitop-exporter, or nvidia_gpu_exporter, which asks nvidia-smi.

An address without a path is asked for both; any other is taken as it is.

A device keeps its id when its machine cannot be reached: it is then told without figures, with the
source "away". It has gone only when its machine answers and no longer tells of it. A total that is
stated in the settings stands in for a machine that was never reached (or has no address), and
overrides the total of a machine's only device.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import msgspec

from smarterrouter.domain.devices import GpuDevice, MemorySnapshot

if TYPE_CHECKING:
    import httpx

NVIDIA = "nvidia"
AWAY = "away"
STATED = "stated"
ROUTER = "smarterrouter"
PATHS = ("/admin/vram", "/metrics")
TIMEOUT_S = 3.0
LARGEST_ANSWER = 16 << 20
LARGEST_MEMORY = 1 << 50
"""No device has a pebibyte. What is above it stands for "unknown": DCGM writes 2147483632 MiB."""

MIB = 1 << 20


class Refused(Exception):
    """There are no figures; the words are for the user."""


class Useless(Refused):
    """Somebody answered, but not with figures: another address there may do better."""


class Missing(Useless):
    """There is no such page."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One device as told. ``id`` is without the node."""

    id: str
    vendor: str
    name: str
    total: int | None
    used: int | None
    free: int | None
    source: str


class RemoteNode:
    """See ``ports.GpuProbe``. Devices ``{node}/nvidia0`` and so on, ``{node}/stated`` at least.

    ``problem`` is for a person: why there are no figures; else ``None``. ``timeout_s`` is for all
    of one look, a third of it for being let in. To be asked from one thread at a time; ``close``
    may come from another.
    """

    def __init__(
        self,
        node: str,
        url: str | None,
        total_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.problem: str | None = None
        self._node = node
        self._addresses = addresses(url) if url else []
        self._stated = total_bytes
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._client: httpx.Client | None = None
        self._looking = threading.Lock()
        self._closed = False
        self._known: dict[str, GpuDevice] = {}

    def snapshots(self) -> tuple[MemorySnapshot, ...]:
        with self._looking:
            found = self._look()
        if self._closed:
            self.close()
        return found

    def close(self) -> None:
        """Let go of the connection: at once, or when the look under way has ended."""
        self._closed = True
        if self._looking.acquire(blocking=False):
            client, self._client = self._client, None
            self._looking.release()
            if client is not None:
                client.close()

    # --- what becomes of it ---------------------------------------------------------------------

    def _look(self) -> tuple[MemorySnapshot, ...]:
        try:
            told = self._ask() if self._addresses else []
            self.problem = None
        except Refused as refused:
            told, self.problem = [], str(refused)
        now = {snapshot.device.id: snapshot for snapshot in self._snapshots(told)}
        self._known |= {identity: snapshot.device for identity, snapshot in now.items()}
        if not self._known:
            return self._statement()
        return tuple(
            now.get(identity) or self._absent(device, told)
            for identity, device in self._known.items()
        )

    def _snapshots(self, told: list[Figures]) -> Iterable[MemorySnapshot]:
        for figures in told:
            total, used, free = figures.total, figures.used, figures.free
            if self._stated is not None and len(told) == 1:
                total = self._stated
                free = None if used is None else max(0, total - used)
            identity = f"{self._node}/{figures.id}"
            device = GpuDevice(identity, self._node, figures.vendor, figures.name, total)
            yield MemorySnapshot(device, used, free, figures.source)

    def _absent(self, device: GpuDevice, told: list[Figures]) -> MemorySnapshot:
        """A device without figures; where others have some, it has gone."""
        return MemorySnapshot(device, None, None, AWAY, gone=bool(told))

    def _statement(self) -> tuple[MemorySnapshot, ...]:
        if self._stated is None:
            return ()
        name = f"memory of {self._node}, as stated"
        device = GpuDevice(f"{self._node}/stated", self._node, STATED, name, self._stated)
        return (MemorySnapshot(device, None, None, STATED),)

    # --- asking ---------------------------------------------------------------------------------

    def _ask(self) -> list[Figures]:
        """What the first address with a useful answer tells; that one is asked first from now on.

        Raises ``Refused`` with the words of the first address that said more than that it has no
        such page.
        """
        refusals: list[Refused] = []
        until = time.monotonic() + self._timeout_s
        for address in self._addresses:
            try:
                found = understood(self._fetch(address, until), address)
            except Useless as useless:
                refusals.append(useless)
            else:
                self._addresses = sorted(self._addresses, key=lambda other: other != address)
                return found
        raise next((r for r in refusals if not isinstance(r, Missing)), refusals[-1])

    def _fetch(self, address: str, until: float) -> str:
        import httpx

        shown = without_secrets(address)
        try:
            with self._open(address).stream("GET", address) as answer:
                _accept(answer.status_code, shown)
                body = bytearray()
                for block in answer.iter_bytes():
                    body += block
                    if len(body) > LARGEST_ANSWER:
                        raise Useless(f"{shown} answers with far too much to be metrics.")
                    if time.monotonic() > until:  # a server that trickles never times out
                        raise httpx.ReadTimeout("")
        except httpx.TimeoutException as error:
            raise Refused(
                f"{shown} did not answer within {self._timeout_s:g} s. "
                "Is that machine awake, and the exporter running?"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Refused(
                f"{shown} cannot be reached: {error}. "
                "Is the address right, and the exporter running?"
            ) from error
        return body.decode(errors="replace")

    def _open(self, address: str) -> httpx.Client:
        import httpx

        if self._client is None:
            self._client = httpx.Client(
                headers=self._headers,
                timeout=httpx.Timeout(self._timeout_s * 2 / 3, connect=self._timeout_s / 3),
                trust_env=False,
                # Reading the certificates costs more than all the rest, and http needs none.
                verify=not address.startswith("http://"),
            )
        return self._client


def addresses(url: str) -> list[str]:
    """What to ask, in this order."""
    url = url.strip() if "://" in url else f"http://{url.strip()}"
    try:
        parts = urlsplit(url)
    except ValueError:  # asking will tell what is wrong with it
        return [url]
    if parts.path.strip("/"):
        return [url]
    return [urlunsplit(parts._replace(path=path)) for path in PATHS]


def without_secrets(url: str) -> str:
    """The address as it may be told: without a password, and without what follows a ``?``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "its address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _accept(status: int, shown: str) -> None:
    if status in (401, 403):
        raise Useless(f"{shown} answers {status}: give its key in the node's headers.")
    if status in (404, 405):
        raise Missing(f"{shown} answers {status}: there are no figures at that address.")
    if 300 <= status < 400:
        raise Useless(f"{shown} answers {status}: give the address that it redirects to.")
    if status != 200:
        raise Useless(f"{shown} answers {status}: see what its own log says.")


# --- understanding ------------------------------------------------------------------------------


def understood(text: str, address: str = "") -> list[Figures]:
    """The devices that an answer tells of. Raises ``Useless`` where it tells of none."""
    found = _router(text) if text.lstrip().startswith("{") else _exporter(text)
    if not found:
        raise Useless(
            f"{without_secrets(address)} answers, but not with GPU memory. Give the address of a "
            "dcgm-exporter, nvitop-exporter, nvidia_gpu_exporter or another smarterrouter."
        )
    return found


class _Device(msgspec.Struct):
    id: str
    vendor: str = "unknown"
    name: str = "GPU"
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None


class _Vram(msgspec.Struct):
    devices: list[_Device]


def _router(text: str) -> list[Figures]:
    """1 of the module's docstring."""
    try:
        told = msgspec.json.decode(text, type=_Vram)
    except msgspec.DecodeError:
        return []
    return [
        Figures(
            device.id,
            device.vendor,
            device.name,
            _plausible(device.total_bytes),
            _plausible(device.used_bytes),
            _plausible(device.free_bytes),
            ROUTER,
        )
        for device in told.devices
        if device.id and "/" not in device.id  # only those of other machines have one
    ]


def _plausible(figure: float | None, unit: int = 1) -> int | None:
    if figure is None or not 0 <= figure * unit < LARGEST_MEMORY:  # nor NaN, nor infinite
        return None
    return int(figure * unit)


@dataclass(frozen=True, slots=True)
class Exporter:
    """How an exporter calls things. ``card`` names the labels that tell one device from another.

    ``index`` and ``model`` are labels too, if need be of the series ``about``.
    """

    source: str
    unit: int
    total: str
    used: str
    free: str
    reserved: str
    card: tuple[str, ...]
    index: str
    model: str
    about: str = ""

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.total, self.used, self.free, self.reserved, self.about} - {""})


EXPORTERS = (
    Exporter(
        source="dcgm-exporter",
        unit=MIB,
        total="DCGM_FI_DEV_FB_TOTAL",
        used="DCGM_FI_DEV_FB_USED",
        free="DCGM_FI_DEV_FB_FREE",
        reserved="DCGM_FI_DEV_FB_RESERVED",
        card=("gpu", "GPU_I_ID"),
        index="gpu",
        model="modelName",
    ),
    Exporter(
        source="nvitop-exporter",
        unit=MIB,
        total="gpu_memory_total_MiB",
        used="gpu_memory_used_MiB",
        free="gpu_memory_free_MiB",
        reserved="",
        card=("index",),
        index="index",
        model="devicename",
    ),
    Exporter(
        source="nvidia_gpu_exporter",
        unit=1,
        total="nvidia_smi_memory_total_bytes",
        used="nvidia_smi_memory_used_bytes",
        free="nvidia_smi_memory_free_bytes",
        reserved="nvidia_smi_memory_reserved_bytes",
        card=("uuid",),
        index="index",
        model="name",
        about="nvidia_smi_gpu_info",
    ),
)


@dataclass(frozen=True, slots=True)
class _Told:
    """One device's values and labels, by the names of the exporter."""

    values: dict[str, float]
    labels: dict[str, str]


def _exporter(text: str) -> list[Figures]:
    """2 of the module's docstring."""
    for exporter in EXPORTERS:
        told = _by_card(exporter, text)
        numbered = sorted(told.items(), key=lambda item: _order(exporter, *item))
        if numbered:
            return [_figures(exporter, position, *item) for position, item in enumerate(numbered)]
    return []


def _by_card(exporter: Exporter, text: str) -> dict[tuple[str, ...], _Told]:
    """What is told of each device that has a figure."""
    found: dict[tuple[str, ...], _Told] = defaultdict(lambda: _Told({}, {}))
    for name, labels, value in _samples(exporter.names, text):
        card = found[tuple(labels.get(label, "") for label in exporter.card)]
        card.labels.update(labels)
        if name != exporter.about:
            card.values[name] = value
    return {key: card for key, card in found.items() if card.values}


def _samples(names: Iterable[str], text: str) -> Iterable[tuple[str, dict[str, str], float]]:
    """The series of these names. Each line is read for itself: one that is garbage spoils no other,
    and of a large answer only little has to be looked into.
    """
    from prometheus_client.parser import text_string_to_metric_families

    wanted = re.compile(rf"(?:{'|'.join(map(re.escape, names))})[{{ \t]")
    for line in text.splitlines():
        if not wanted.match(line):
            continue
        try:
            families = list(text_string_to_metric_families(f"{line}\n"))
        except (ValueError, IndexError, KeyError, TypeError):  # how its parser tells of garbage
            continue
        yield from ((s.name, s.labels, s.value) for family in families for s in family.samples)


def _order(exporter: Exporter, key: tuple[str, ...], told: _Told) -> tuple[int, tuple[str, ...]]:
    index = told.labels.get(exporter.index, "")
    return (int(index) if re.fullmatch(r"[0-9]{1,6}", index) else 1 << 20, key)


def _figures(exporter: Exporter, position: int, key: tuple[str, ...], told: _Told) -> Figures:
    def value(name: str) -> int | None:
        return _plausible(told.values.get(name), exporter.unit)

    used, free, reserved = value(exporter.used), value(exporter.free), value(exporter.reserved)
    total = value(exporter.total)
    if total is None and used is not None and free is not None:
        total = used + free + (reserved or 0)
    if total is not None and free is not None:
        used = max(0, total - free)  # with what the driver keeps for itself
    elif total is not None and used is not None:
        free = max(0, total - used - (reserved or 0))
    index = re.sub(r"[^0-9A-Za-z]+", ".", told.labels.get(exporter.index) or str(position))
    part = f".{key[1]}" if len(key) > 1 and key[1] else ""  # of a card that is cut up (MIG)
    name = told.labels.get(exporter.model) or "NVIDIA GPU"
    return Figures(f"{NVIDIA}{index}{part}", NVIDIA, name, total, used, free, exporter.source)
