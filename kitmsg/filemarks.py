"""Marks of files: whether one has changed since it was read."""

from __future__ import annotations

import os

__all__ = ["mark_of"]


def mark_of(path: str) -> object:
    """Return what changes with a file; None if it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
