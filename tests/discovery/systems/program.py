"""A server process that tests start, kill and freeze."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Program"]

_READY_SECONDS = 60.0


class Program:
    """One server; it keeps its folder and ports when it is started again.

    Args:
        command: Its command line.
        is_ready: Whether it can be used.
        folder: Where it runs.
        environment: Added to ours.
    """

    def __init__(
        self,
        command: list[str],
        is_ready: Callable[[], bool],
        *,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="kitmsg-system-"))
        self._command = command
        self._is_ready = is_ready
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        # Also of a run that was broken off; the last is done first.
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        atexit.register(self.kill)

    def start(self) -> None:
        """Start it, and return when it can be used."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # a shell script and what it starts
            )
        until = time.monotonic() + _READY_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                tail = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.kill()
                raise AssertionError(f"{self._command[0]} is not ready: {tail}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return self._is_ready()
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def freeze(self) -> None:
        """Stop it: connections stay open and silent."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """End what `freeze` began; nothing for one that runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGCONT)
