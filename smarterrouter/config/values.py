"""The kinds of values that a setting can have: how each may be written, and what it becomes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

SPELLINGS = {"llama.cpp": "llamacpp", "llama_cpp": "llamacpp", "llama-cpp": "llamacpp"}
FOR_EVER = -1.0
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
LENGTH_OF_TIME = re.compile(r"-?(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _spelled(value: object) -> object:
    return SPELLINGS.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _web_address(value: str) -> str:
    if "://" in value and not value.startswith(("http://", "https://")):
        raise ValueError("it must begin with http:// or https://")
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if not parts.hostname or parts.port == 0:  # .port raises ValueError where it is no number
        raise ValueError("it names no host")
    return value


def _sendable(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("it holds characters that no header can carry")
    return SecretStr(key)


def _seconds(value: object) -> object:
    """Seconds of a length of time in Ollama's spellings: 300, "300", "5m", "1h30m", "-1"."""
    if isinstance(value, bool):
        raise ValueError("it is no length of time")
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        pass
    if not LENGTH_OF_TIME.fullmatch(text):
        raise ValueError("it is no length of time")
    parts = re.findall(r"([\d.]+)([a-z]+)", text)
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    return -seconds if text.startswith("-") else seconds


def _any_negative_is_for_ever(value: float) -> float:
    return FOR_EVER if value < 0 else value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
NAME = "letters, digits and . _ -"
Kind = Annotated[Literal["ollama", "llamacpp", "openai", "managed"], BeforeValidator(_spelled)]
KINDS = "ollama, llamacpp, openai or managed"
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
Url = Annotated[str, AfterValidator(_web_address)]
Key = Annotated[SecretStr, AfterValidator(_sendable)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
Strategy = Annotated[Literal["lru", "largest", "cost"], BeforeValidator(_lower)]
KeepAlive = Annotated[float, BeforeValidator(_seconds), AfterValidator(_any_negative_is_for_ever)]
