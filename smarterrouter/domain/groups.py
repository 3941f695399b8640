"""The kinds of prompt that models are compared on, and the category of each. Decides nothing."""

from __future__ import annotations

GROUPS: dict[str, str] = {
    "code_write": "coding",
    "code_read": "coding",
    "data_query": "coding",
    "math": "reasoning",
    "logic": "reasoning",
    "planning": "reasoning",
    "knowledge": "factual",
    "advice": "factual",
    "summarising": "factual",
    "extraction": "factual",
    "translation": "factual",
    "formatting": "factual",
    "writing": "creativity",
    "roleplay": "creativity",
}
