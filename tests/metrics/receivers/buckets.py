"""Quantiles of buckets, as Prometheus' ``histogram_quantile`` computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["quantile"]


def quantile(bounds: Sequence[float], counts: Sequence[int], q: float) -> float:
    """Return quantile `q` of counts in buckets; the last has no upper bound."""
    rank = q * sum(counts)
    low = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count >= rank:
            return low + (bound - low) * rank / count if count else low
        rank -= count
        low = bound
    return low
