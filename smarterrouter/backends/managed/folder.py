"""Finds the models in a folder: which files belong together, and what they are called.

Decides what is a model that may be served and what is wrong with every file that is not;
not whether it fits. A broken file is a line in ``problems``, never an exception.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from smarterrouter.backends.managed.gguf import GgufHeader, NotAModel, read_header
from smarterrouter.backends.managed.presets import Preset, Presets
from smarterrouter.domain.models import Capability

_DEPTH = 4
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_UNFINISHED = (".part", ".incomplete", ".crdownload", ".aria2", ".download", ".tmp")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file (or preset section) that is no model, and a sentence that says why."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One model that can be served. ``paths`` are its shards in order, mostly just one."""

    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    header: GgufHeader
    mmproj: Path | None = None
    mmproj_bytes: int = 0
    sees: bool = False
    preset: Preset = field(default_factory=Preset)

    @property
    def path(self) -> Path:
        """The file that llama-server is given; it finds the other shards itself."""
        return self.paths[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from."""
        return (*self.paths, self.mmproj) if self.mmproj else self.paths

    @property
    def capabilities(self) -> frozenset[Capability]:
        if self.preset.embedding:
            return frozenset({Capability.EMBEDDING})
        return self.header.capabilities(mmproj=self.sees)


@dataclass(frozen=True, slots=True)
class FolderListing:
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()


def scan(models_dir: Path, presets: Presets | None = None) -> FolderListing:
    """Every model below ``models_dir`` and every one that ``presets`` names besides.

    1. Each file is read; adapters, unfinished downloads and broken files become problems.
    2. Shards become one model, which is named by its file, by its path where names collide.
    3. A projector goes to the model that a preset, the folder or the names give it to.
    4. A preset section with a ``model`` of its own is one more model.
    """
    problems: list[Problem] = []
    files = list(_readable(_gguf_files(models_dir, problems), problems))
    projectors = {path: header for path, header in files if header.is_projector}
    models = _assembled([file for file in files if file[0] not in projectors], problems)
    names = _names((paths[0] for paths, _ in models), models_dir)
    presets = presets or Presets(models_dir)
    entries = {}
    paired = _paired([paths[0] for paths, _ in models], projectors)
    for paths, header in models:
        name = names[paths[0]]
        entry = Entry(name, paths, _size(paths), header, preset=presets.for_model(name))
        entries[name] = _with_projector(entry, paired.get(paths[0]), problems)
    for section in presets.sections:
        _add_section(section, presets, entries, problems)
    by_name = sorted(entries.values(), key=lambda entry: entry.name)
    return FolderListing(tuple(by_name), tuple(sorted(problems, key=lambda found: found.path)))


def _gguf_files(models_dir: Path, problems: list[Problem]) -> Iterator[Path]:
    """The ``*.gguf`` files, hidden ones left out; no folder is entered twice by its links."""
    pending = [(models_dir, 1)]
    entered = set()
    while pending:
        folder, depth = pending.pop()
        if (real := os.path.realpath(folder)) in entered:
            continue
        entered.add(real)
        try:
            children = sorted(folder.iterdir())
        except OSError as error:
            problems.append(Problem(folder, f"The folder cannot be read: {error.strerror}."))
            continue
        for child in children:
            if child.name.startswith("."):
                continue
            if child.is_dir():
                if depth < _DEPTH:
                    pending.append((child, depth + 1))
            elif child.suffix.lower() == ".gguf":
                yield child
            elif child.suffix in _UNFINISHED and ".gguf" in child.name:
                problems.append(Problem(child, "The download has not finished."))


def _readable(paths: Iterable[Path], problems: list[Problem]) -> Iterator[tuple[Path, GgufHeader]]:
    for path in paths:
        try:
            yield path, _whole_header(path)
        except NotAModel as error:
            problems.append(Problem(path, error.why))


def _whole_header(path: Path) -> GgufHeader:
    """The header of a file that is complete and holds weights to serve."""
    try:
        status = path.stat()
    except OSError as error:
        raise NotAModel(path, f"The file cannot be read: {error.strerror}.") from error
    header = _remembered(path, status.st_size, status.st_mtime_ns)
    if header.kind == "adapter":
        raise NotAModel(path, "This is an adapter (LoRA), which needs a model to go with.")
    if header.kind == "imatrix" or not header.parameters:
        raise NotAModel(path, "The file holds no weights.")
    if status.st_size < header.file_bytes:
        missing = header.file_bytes - status.st_size
        raise NotAModel(path, f"The file is {missing} bytes short; download it again.")
    return header


@lru_cache(maxsize=4096)
def _remembered(path: Path, size: int, mtime_ns: int) -> GgufHeader:
    """Reads a header once per version of the file; a failure is not remembered."""
    return read_header(path)


Model = tuple[tuple[Path, ...], GgufHeader]


def _assembled(files: list[tuple[Path, GgufHeader]], problems: list[Problem]) -> list[Model]:
    """Models with their shards put together; sets with a shard missing become problems."""
    models: list[Model] = []
    sets: defaultdict[tuple[Path, str, int], dict[int, tuple[Path, GgufHeader]]]
    sets = defaultdict(dict)
    for path, header in files:
        shard = _SHARD.fullmatch(path.stem)
        if shard:
            key = (path.parent, shard["stem"], int(shard["count"]))
            sets[key][int(shard["number"])] = (path, header)
        elif header.split_count > 1:
            why = f"This is one of {header.split_count} parts; give it back its original name."
            problems.append(Problem(path, why))
        else:
            models.append(((path,), header))
    for (folder, stem, count), shards in sets.items():
        missing = [number for number in range(1, count + 1) if number not in shards]
        if missing:
            wanted = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            why = f"Of {count} parts these are missing or broken: {wanted}."
            problems.append(Problem(folder / f"{stem}.gguf", why))
            continue
        paths, headers = zip(*(shards[number] for number in range(1, count + 1)), strict=True)
        models.append((paths, headers[0].with_shards(headers[1:])))
    return models


def _names(paths: Iterable[Path], models_dir: Path) -> dict[Path, str]:
    """What each model is called: its stem, or its path where another has the same stem."""
    stems = {path: _stem(path) for path in paths}
    uses = Counter(stems.values())
    return {
        path: stem if uses[stem] == 1 else path.with_name(stem).relative_to(models_dir).as_posix()
        for path, stem in stems.items()
    }


def _stem(path: Path) -> str:
    shard = _SHARD.fullmatch(path.stem)
    return shard["stem"] if shard else path.stem


def _paired(models: list[Path], projectors: Iterable[Path]) -> dict[Path, Path]:
    """Which projector each model has: the folder's only model, or the most alike in name."""
    pairs: dict[Path, Path] = {}
    for projector in projectors:
        near = [model for model in models if model.parent == projector.parent]
        likeness = {model: _likeness(model, projector) for model in near}
        best = max(likeness.values(), default=0)
        for model in near:
            if len(near) == 1 or (best >= 4 and likeness[model] == best):
                pairs.setdefault(model, projector)
    return pairs


def _likeness(model: Path, projector: Path) -> int:
    """How many leading characters the two names share, "mmproj" left out."""
    bare = re.sub(r"[-_.]?mmproj[-_.]?", "", projector.stem.lower())
    pairs = takewhile(
        lambda pair: pair[0] == pair[1], zip(_stem(model).lower(), bare, strict=False)
    )
    return sum(1 for _ in pairs)


def _with_projector(entry: Entry, found: Path | None, problems: list[Problem]) -> Entry:
    """Gives the entry its projector; the preset's own goes before one that was found."""
    preset = entry.preset
    projector = preset.mmproj or (found if preset.mmproj_auto else None)
    if projector is None:
        return entry
    try:
        header = _whole_header(projector)
    except NotAModel as error:
        problems.append(Problem(projector, error.why))
        return entry
    own = _size([projector])
    return replace(
        entry,
        mmproj=projector,
        mmproj_bytes=own,
        sees=header.encodes_images,
        size_bytes=entry.size_bytes + own,
    )


def _add_section(
    section: str, presets: Presets, entries: dict[str, Entry], problems: list[Problem]
) -> None:
    """Adds the model that a preset section brings along, in place of one of the same name."""
    preset = presets.for_model(section)
    if preset.model is None:
        if section not in entries:
            why = f"[{section}] names no model in the folder; give it a line model = PATH."
            problems.append(Problem(presets.path, why))
        return
    failures: list[Problem] = []
    found = from_file(section, preset.model, preset, failures)
    problems += [replace(failure, why=f"[{section}] {failure.why}") for failure in failures]
    if found is not None:
        entries[section] = found


def from_file(name: str, path: Path, preset: Preset, problems: list[Problem]) -> Entry | None:
    """The one model in ``path``, with its other shards and the preset's own projector."""
    shard = _SHARD.fullmatch(path.stem)
    paths = [path]
    if shard:
        file = path.stem[:-14] + "{:05}-of-" + shard["count"] + path.suffix
        paths = [path.with_name(file.format(n + 1)) for n in range(int(shard["count"]))]
    for found, header in _assembled(list(_readable(paths, problems)), problems):
        if not header.is_projector:
            entry = Entry(name, found, _size(found), header, preset=preset)
            return _with_projector(entry, None, problems)
        why = "This is an image projector; name it as mmproj, not as model."
        problems.append(Problem(found[0], why))
    return None


def _size(paths: Iterable[Path]) -> int:
    """Bytes on disk; a file that has just gone counts as nothing."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
