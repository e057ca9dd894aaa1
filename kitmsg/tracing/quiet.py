"""Keeps what OpenTelemetry's exporters log of an export; who exports says it once."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Said", "quietly"]

_EXPORTERS: Final = "opentelemetry.exporter"


class Said:
    """The lines of one export.

    Attributes:
        last: The last of them; "" for none.
    """

    def __init__(self) -> None:
        self.last = ""


class _Filter(logging.Filter):
    """Takes the lines of threads that export quietly, and leaves those of all others."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        said: Said | None = getattr(self.here, "said", None)
        if said is None:
            return True
        said.last = record.getMessage()
        return False


_filter: Final = _Filter()


@contextlib.contextmanager
def quietly() -> Iterator[Said]:
    """Keep the lines of an export in this thread from the log, for the block."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(_EXPORTERS):  # a filter of their parent would not see them
            logging.getLogger(name).addFilter(_filter)
    said = _filter.here.said = Said()
    try:
        yield said
    finally:
        _filter.here.said = None
