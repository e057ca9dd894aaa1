"""Commands as a user starts them: real processes, watched through what they print."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Command", "until"]

T = TypeVar("T")
_SECONDS = 20.0
_STEP_SECONDS = 0.02


def until(what: Callable[[], T], why: str, seconds: float = _SECONDS) -> T:
    """Return the first true answer of `what`; fails with `why` when none comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(_STEP_SECONDS)
    raise AssertionError(f"not in {seconds:g} s: {why}")


class Command:
    """One process and its descendants, none of which outlives the block."""

    def __init__(
        self,
        args: Sequence[str],
        folder: Path,
        *,
        nats_url: str = "",
        environ: dict[str, str] | None = None,
        program: str = sys.executable,
    ) -> None:
        clean = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("NATS_", "KITMSG_"))
        }
        clean |= {"NATS_URL": nats_url} if nats_url else {}
        self._log = folder / f"command-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, *args],
                cwd=folder,
                env=clean | (environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that a Ctrl-C reaches only its processes
            )
        self._family: list[psutil.Process] = []

    @property
    def output(self) -> str:
        """What it and its children printed so far."""
        return self._log.read_text(errors="replace")

    def says(self, text: str, count: int = 1) -> None:
        """Wait until it has printed `text`, `count` times."""

        def found() -> bool:
            ended = self.process.poll() is not None
            if self.output.count(text) >= count:
                return True
            assert not ended, f"it ended without {text!r}:\n{self.output}"
            return False

        try:
            until(found, text)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.output}") from None

    def family(self) -> list[psutil.Process]:
        """Return all its descendants that live, and remember them."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        known = {process.pid for process in self._family}
        self._family += [process for process in found if process.pid not in known]
        return found

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes."""
        return [
            process
            for process in self.family()
            if process.is_running() and "kitmsg.worker" in process.cmdline()
        ]

    def send(self, number: int) -> None:
        """Send it a signal, and it alone."""
        self.family()
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Press Ctrl-C: the whole process group hears it."""
        self.family()
        os.killpg(self.process.pid, signal.SIGINT)

    def ends(self) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.output}") from None

    def leaves_nothing(self) -> None:
        """Wait until none of its descendants lives."""
        until(lambda: not self._alive(), f"no process left of {self._family}")

    def _alive(self) -> list[psutil.Process]:
        return [
            process
            for process in self._family
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.family()
        for process in self._alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()
