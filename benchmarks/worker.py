"""``kitmsg run`` as a process of its own, watched through its health port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from benchmarks.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GREETER", "Worker", "wait_until"]

GREETER: Final = "examples/greeter.py"
"""The smallest service there is."""

_ROOT: Final = Path(__file__).parents[1]
_PATIENCE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01


class Worker:
    """A parent and its workers; ``with`` starts it, waits until all are ready, ends it.

    Args:
        url: Address of the NATS server.
        target: What to serve.
        workers: How many processes.
        environ: Variables to add.
        is_quiet: Whether its errors go nowhere, where they are what is measured.
    """

    def __init__(
        self,
        url: str,
        target: str = GREETER,
        *,
        workers: int = 1,
        environ: dict[str, str] | None = None,
        is_quiet: bool = False,
    ) -> None:
        self._workers = workers
        self._health = f"127.0.0.1:{free_port()}"
        self._command = [
            *(sys.executable, "-m", "kitmsg.cli", "run", target),
            *("--workers", str(workers), "--health", self._health),
            *("--nats-url", url, "--log-level", "error"),
        ]
        self._environ = {**os.environ, **(environ or {})}
        self._stderr = subprocess.DEVNULL if is_quiet else None

    def __enter__(self) -> Self:
        self._popen = subprocess.Popen(
            self._command, cwd=_ROOT, env=self._environ, stderr=self._stderr
        )
        try:
            wait_until(self._is_settled, "workers are ready")
        except BaseException:
            self._popen.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.terminate()
        self._popen.wait()

    @property
    def pid(self) -> int:
        """Process id of the parent."""
        return self._popen.pid

    @property
    def children(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return [w["pid"] for w in self._states() if w["state"] == "ready"]

    def roll(self) -> None:
        """Tell the parent to replace its workers one after the other."""
        self._popen.send_signal(signal.SIGHUP)

    def _is_settled(self) -> bool:
        if self._popen.poll() is not None:
            raise RuntimeError(f"{' '.join(self._command)} ended")
        return len(self.children) == self._workers

    def _states(self) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://{self._health}/readyz") as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:  # it does not listen yet
            return []
        states: list[dict[str, Any]] = msgspec.json.decode(body)["workers"]
        return states


def wait_until(condition: Callable[[], object], what: str) -> float:
    """Wait until `condition` holds; returns the seconds that took.

    Raises:
        TimeoutError: It took longer than 30 s.
    """
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > _PATIENCE_SECONDS:
            raise TimeoutError(f"waited {_PATIENCE_SECONDS:g} s until {what}")
        time.sleep(_POLL_SECONDS)
    return time.perf_counter() - start
