"""Content negotiation: which media type a client likes best, and whether it takes gzip.

Source: RFC 9110, section 12.5.
"""

from __future__ import annotations

import functools
import re
from typing import Final

__all__ = ["accepts_gzip", "choose"]

_RANGE: Final = re.compile(
    r"\s*([\w!#$%&'*+.^`|~-]+)/([\w!#$%&'*+.^`|~-]+)\s*((?:;[^;]*)*)", re.ASCII
)
_QUALITY: Final = re.compile(r"\s*[qQ]\s*=\s*([01](?:\.\d{0,3})?)\s*", re.ASCII)
_CODING: Final = re.compile(
    r"\s*([\w!#$%&'*+.^`|~-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.\d{0,3})?)\s*)?", re.ASCII
)


@functools.lru_cache(maxsize=128)  # clients of one kind agree with each other
def choose(accept: str, offers: tuple[str, ...]) -> str | None:
    """Return the offer that a client likes best; the first of equals.

    Args:
        accept: Value of its ``Accept`` header; "" takes anything.  What cannot be read is
            left out.
        offers: Media types, the best first.

    Returns:
        One of `offers`; None if the client takes none of them.
    """
    ranges = list(_ranges(accept)) if accept.strip() else [("*", "*", 1.0)]
    best, most = None, 0.0
    for offer in offers:
        quality = _quality(offer, ranges)
        if quality > most:
            best, most = offer, quality
    return best


def _ranges(accept: str) -> list[tuple[str, str, float]]:
    found = []
    for part in accept.lower().split(","):
        matched = _RANGE.fullmatch(part)
        if matched is None:
            continue
        quality = 1.0
        for parameter in matched[3].split(";"):
            said = _QUALITY.fullmatch(parameter)
            if said is not None:
                quality = float(said[1])
        found.append((matched[1], matched[2], quality))
    return found


def _quality(offer: str, ranges: list[tuple[str, str, float]]) -> float:
    """Return how much an offer is liked: what names it most closely decides."""
    kind, _, sub = offer.partition("/")
    wanted = [
        ((type_ != "*") + (subtype != "*"), quality)
        for type_, subtype, quality in ranges
        if type_ in (kind, "*") and subtype in (sub, "*")
    ]
    return max(wanted, default=(0, 0.0))[1]


@functools.lru_cache(maxsize=64)  # browsers agree with each other
def accepts_gzip(text: str) -> bool:
    """Tell whether the value of an ``Accept-Encoding`` header wants gzip.

    What cannot be read is left out; nothing at all wants no coding.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        matched = _CODING.fullmatch(part)
        if matched is not None:
            name, weight = matched.groups()
            weights[name.lower()] = 1.0 if weight is None else float(weight)
    wanted = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return wanted > 0 and wanted >= weights.get("identity", 0.0)
