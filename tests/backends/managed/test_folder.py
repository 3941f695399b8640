"""Folders of real (if small) model files, tidy and untidy."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from smarterrouter.backends.managed.folder import Entry, FolderListing, scan
from smarterrouter.backends.managed.presets import read_presets
from smarterrouter.backends.managed.recipe import Defaults, recipe
from smarterrouter.domain.models import Capability


def model(path: Path, architecture: str = "llama", kind: str | None = None) -> Path:
    """A file whose header and tensors agree, of one tensor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    if kind:
        writer.add_type(kind)
    writer.add_tensor("token_embd.weight", np.zeros((64, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shards(folder: Path, stem: str, count: int) -> list[Path]:
    return [model(folder / f"{stem}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]


def names(listing: FolderListing) -> list[str]:
    return [entry.name for entry in listing.entries]


def entry(listing: FolderListing, name: str) -> Entry:
    return next(one for one in listing.entries if one.name == name)


def problems(listing: FolderListing) -> dict[str, str]:
    return {problem.path.name: problem.why for problem in listing.problems}


def test_models_are_named_by_their_files(tmp_path: Path) -> None:
    path = model(tmp_path / "deep" / "down" / "beta.gguf")
    model(tmp_path / "alpha.gguf")
    listing = scan(tmp_path)
    assert names(listing) == ["alpha", "beta"]
    beta = entry(listing, "beta")
    assert beta.path == path
    assert beta.size_bytes == path.stat().st_size
    assert beta.header.quantization == "F16"
    assert beta.capabilities == {Capability.CHAT}
    assert not listing.problems


def test_models_of_the_same_name_are_named_by_their_paths(tmp_path: Path) -> None:
    model(tmp_path / "one" / "same.gguf")
    model(tmp_path / "two" / "same.gguf")
    model(tmp_path / "other.gguf")
    assert names(scan(tmp_path)) == ["one/same", "other", "two/same"]


def test_folders_too_deep_and_hidden_files_are_left_alone(tmp_path: Path) -> None:
    model(tmp_path / "a" / "b" / "c" / "in.gguf")
    model(tmp_path / "a" / "b" / "c" / "d" / "out.gguf")
    model(tmp_path / ".hidden.gguf")
    model(tmp_path / ".cache" / "cached.gguf")
    assert names(scan(tmp_path)) == ["in"]


def test_a_folder_that_contains_itself_is_seen_once(tmp_path: Path) -> None:
    model(tmp_path / "m.gguf")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert names(scan(tmp_path)) == ["m"]


def test_a_missing_folder_is_a_problem(tmp_path: Path) -> None:
    assert "cannot be read" in problems(scan(tmp_path / "none"))["none"]


def test_shards_are_one_model(tmp_path: Path) -> None:
    paths = shards(tmp_path, "big", 3)
    listing = scan(tmp_path)
    assert names(listing) == ["big"]
    big = entry(listing, "big")
    assert big.paths == tuple(paths)
    assert big.size_bytes == sum(path.stat().st_size for path in paths)
    assert big.header.parameters == 3 * 64 * 32


def test_a_missing_shard_is_a_problem_and_no_model(tmp_path: Path) -> None:
    shards(tmp_path, "big", 3)[1].unlink()
    listing = scan(tmp_path)
    assert not listing.entries
    assert problems(listing) == {"big.gguf": "Of 3 parts these are missing or broken: 2."}


def test_a_renamed_shard_is_a_problem(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "renamed.gguf", "llama")
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 2)
    writer.add_tensor("output.weight", np.zeros((64, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    listing = scan(tmp_path)
    assert not listing.entries
    assert "one of 2 parts" in problems(listing)["renamed.gguf"]


def test_a_broken_shard_breaks_its_model(tmp_path: Path) -> None:
    path = shards(tmp_path, "big", 2)[1]
    os.truncate(path, path.stat().st_size - 1)
    listing = scan(tmp_path)
    assert not listing.entries
    assert problems(listing)[path.name] == "The file is 1 bytes short; download it again."


def test_broken_and_unfinished_files_do_not_hide_the_others(tmp_path: Path) -> None:
    model(tmp_path / "good.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    (tmp_path / "half.gguf.part").touch()
    (tmp_path / "half.gguf.incomplete").touch()
    (tmp_path / "notes.txt").touch()
    model(tmp_path / "adapter.gguf", kind="adapter")
    listing = scan(tmp_path)
    assert names(listing) == ["good"]
    found = problems(listing)
    assert found.keys() == {"text.gguf", "half.gguf.part", "half.gguf.incomplete", "adapter.gguf"}
    assert "not a GGUF file" in found["text.gguf"]
    assert "not finished" in found["half.gguf.part"]
    assert "adapter" in found["adapter.gguf"]


def test_the_only_model_of_a_folder_has_its_projector(tmp_path: Path) -> None:
    projector = model(tmp_path / "vl" / "mmproj-F16.gguf", "clip")
    path = model(tmp_path / "vl" / "seer.gguf")
    model(tmp_path / "blind.gguf")
    listing = scan(tmp_path)
    assert names(listing) == ["blind", "seer"]
    seer = entry(listing, "seer")
    assert seer.mmproj == projector
    assert seer.size_bytes == path.stat().st_size + projector.stat().st_size
    assert Capability.VISION in seer.capabilities
    weights = seer.header.shape().weights_bytes
    assert recipe(seer, Defaults()).shape.weights_bytes == weights + projector.stat().st_size
    assert entry(listing, "blind").mmproj is None


def test_among_many_the_name_most_alike_has_the_projector(tmp_path: Path) -> None:
    projector = model(tmp_path / "mmproj-gemma-3-4b-it-f16.gguf", "clip")
    for name in ("gemma-3-4b-it-Q4_K_M", "gemma-3-4b-it-Q8_0", "gemma-2-2b", "qwen"):
        model(tmp_path / f"{name}.gguf")
    paired = {one.name: one.mmproj for one in scan(tmp_path).entries}
    assert paired == {
        "gemma-3-4b-it-Q4_K_M": projector,
        "gemma-3-4b-it-Q8_0": projector,
        "gemma-2-2b": None,
        "qwen": None,
    }


def listing_with(folder: Path, ini: str) -> FolderListing:
    path = folder / "presets.ini"
    path.write_text(ini)
    return scan(folder, read_presets(path))


def test_a_preset_says_which_projector_or_none(tmp_path: Path) -> None:
    model(tmp_path / "mmproj.gguf", "clip")
    other = model(tmp_path / "elsewhere" / "eyes.gguf", "clip")
    model(tmp_path / "seer.gguf")
    named = listing_with(tmp_path, f"[seer]\nmmproj = {other}\n")
    assert entry(named, "seer").mmproj == other
    none = listing_with(tmp_path, "[seer]\nno-mmproj = true\n")
    assert entry(none, "seer").mmproj is None


def test_settings_reach_the_models_they_name(tmp_path: Path) -> None:
    model(tmp_path / "a.gguf")
    model(tmp_path / "b.gguf")
    listing = listing_with(tmp_path, "[*]\nc = 1024\n[b]\nc = 512\nembedding = 1\n")
    assert entry(listing, "a").preset.ctx_size == 1024
    assert entry(listing, "b").preset.ctx_size == 512
    assert entry(listing, "b").capabilities == {Capability.EMBEDDING}


def test_a_section_with_its_own_model_is_one_more(tmp_path: Path) -> None:
    far = model(tmp_path / "far" / "m.gguf")
    near = tmp_path / "near"
    model(near / "a.gguf")
    listing = listing_with(near, f"[same file, long]\nmodel = {far}\nc = 9216\n")
    assert names(listing) == ["a", "same file, long"]
    assert entry(listing, "same file, long").path == far
    parts = shards(tmp_path / "far", "big", 2)
    listing = listing_with(near, f"[big]\nmodel = {parts[0]}\n")
    assert entry(listing, "big").paths == tuple(parts)


def test_sections_without_a_model_are_problems(tmp_path: Path) -> None:
    eyes = model(tmp_path / "mmproj.gguf", "clip")
    listing = listing_with(
        tmp_path, f"[ghost]\nc = 1\n[lost]\nmodel = /none.gguf\n[eyes]\nmodel = {eyes}\n"
    )
    assert not listing.entries
    said = " ".join(problem.why for problem in listing.problems)
    assert "[ghost] names no model in the folder" in said
    assert "[lost] There is no such file" in said or "[lost] The file cannot be read" in said
    assert "[eyes] This is an image projector" in said


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    assert scan(tmp_path).entries[0].header.architecture == "llama"
    model(path, "qwen3")
    assert scan(tmp_path).entries[0].header.architecture == "qwen3"


def test_scanning_200_models_again_is_quick(tmp_path: Path) -> None:
    first = model(tmp_path / "m0.gguf")
    for number in range(1, 200):
        shutil.copy(first, tmp_path / f"m{number}.gguf")
    assert len(scan(tmp_path).entries) == 200
    began = time.perf_counter()
    scan(tmp_path)
    assert time.perf_counter() - began < 0.5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    model(tmp_path / "secret.gguf").chmod(0)
    assert "cannot be read" in problems(scan(tmp_path))["secret.gguf"]
