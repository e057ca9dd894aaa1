"""Programs that a test needs and a machine may lack."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["miss", "need"]


def need(program: str) -> str:
    """Return the path of `program`; without it, skip the test, or fail it in CI.

    CI sets ``KITMSG_REQUIRE_ALL=1``, so nothing goes untested there in silence.
    """
    path = shutil.which(program)
    return path or miss(f"{program} is not on PATH; install it to run this test")


def miss(sentence: str) -> NoReturn:
    """Skip the test for what `sentence` says is missing, or fail it in CI."""
    if os.environ.get("KITMSG_REQUIRE_ALL") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)
