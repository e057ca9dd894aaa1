"""``OTEL_TRACES_SAMPLER``: which new traces are kept.

OpenTelemetry's "Environment Variable Specification", and its ``TraceIdRatioBased``: the low
64 bits of the trace id are compared with a share of their range, so that every process
decides alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kitmsg.errors import InvalidArgument

__all__ = ["Sampling", "sampling_of"]

_RANGE: Final = 1 << 64
_SHARES: Final = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


@dataclass(frozen=True, slots=True)
class Sampling:
    """The traces that are kept.

    Attributes:
        bound: A trace is kept if the low 64 bits of its id are under it.
        follows_parent: Whether a caller's decision counts, where there is one.
    """

    bound: int = _RANGE
    follows_parent: bool = True


def sampling_of(environ: Mapping[str, str] = os.environ) -> Sampling | None:
    """Return the sampling that the environment names; None for one of a plugin.

    Raises:
        InvalidArgument: ``OTEL_TRACES_SAMPLER_ARG`` is no share of 1.
    """
    named = environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").strip().lower()
    kind = named.removeprefix("parentbased_")
    if kind not in _SHARES:
        return None
    share = _SHARES[kind]
    if share is None:
        text = environ.get("OTEL_TRACES_SAMPLER_ARG", "") or "1"
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise InvalidArgument(
                f"OTEL_TRACES_SAMPLER_ARG must be a share from 0 to 1, not {text!r}"
            )
    return Sampling(round(share * _RANGE), kind != named)
