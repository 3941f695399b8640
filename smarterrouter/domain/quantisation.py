"""What coarse weights cost, in log odds of a good answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping

QUANTISATION_LOSS: Mapping[str, float] = {
    "IQ1": 1.2,
    "TQ1": 1.2,
    "Q2": 0.6,
    "IQ2": 0.6,
    "2BIT": 0.6,
    "Q3": 0.25,
    "IQ3": 0.25,
    "3BIT": 0.25,
    "Q4": 0.08,
    "IQ4": 0.08,
    "4BIT": 0.08,
    "INT4": 0.08,
    "GPTQ": 0.08,
    "AWQ": 0.08,
    "Q5": 0.03,
    "5BIT": 0.03,
}
"""By how the quantisation's name begins."""


def quantisation_loss(quantization: str | None) -> float:
    """Log odds lost; nothing for six bits and more, or when unknown."""
    name = (quantization or "").upper().replace("-", "").removeprefix("UD")
    return next((loss for mark, loss in QUANTISATION_LOSS.items() if name.startswith(mark)), 0.0)
