"""Programs that a test needs: skipped on a laptop, demanded in CI."""

from __future__ import annotations

import shutil

import pytest

from tests.require import need

MISSING = "kitmsg-has-no-such-program"


def test_returns_the_path_of_a_program() -> None:
    """A program on PATH is given with its path."""
    assert need("sh") == shutil.which("sh")


def test_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program the test is skipped, and the reason names it."""
    monkeypatch.delenv("KITMSG_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{MISSING} is not on PATH"):
        need(MISSING)


def test_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything must run, a missing program is a failure."""
    monkeypatch.setenv("KITMSG_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match=f"{MISSING} is not on PATH"):
        need(MISSING)
