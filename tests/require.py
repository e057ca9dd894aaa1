"""Programs that a test needs and a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need"]


def need(program: str) -> str:
    """Return the path of `program`; without it, skip the test, or fail it in CI.

    CI sets ``KITMSG_REQUIRE_ALL=1``, so nothing goes untested there in silence.
    """
    path = shutil.which(program)
    if path is not None:
        return path
    sentence = f"{program} is not on PATH; install it to run this test"
    if os.environ.get("KITMSG_REQUIRE_ALL") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)
