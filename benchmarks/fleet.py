"""The processes of a benchmark: started, measured, ended.

CPU is read from the kernel's run-time accounting where there is one (nanoseconds), else
from its ticks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Load", "Process", "cpu_seconds", "free_port", "gokit", "python_peer"]

_ROOT: Final = Path(__file__).parents[1]
_STOP_SECONDS: Final = 5.0


@dataclass
class Process:
    """A program that says ``ready`` on its first line.

    Args:
        command: The program and its arguments.

    Raises:
        RuntimeError: It ended instead; what it wrote to stderr is shown.
    """

    command: Sequence[str]
    popen: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.popen = subprocess.Popen(
            self.command,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us, who end them
        )
        is_ready = False
        try:
            is_ready = self._line() == "ready"
        finally:
            if not is_ready:  # Ctrl-C, too: nobody else knows of it yet
                self.stop()
        if not is_ready:
            raise RuntimeError(f"{' '.join(self.command)} did not start")

    @property
    def pid(self) -> int:
        """Process id."""
        return self.popen.pid

    def stop(self) -> None:
        """End it, by SIGTERM and if need be by SIGKILL."""
        self.popen.terminate()
        try:
            self.popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _line(self) -> str:
        assert self.popen.stdout is not None  # noqa: S101  # a pipe, see above
        return self.popen.stdout.readline().strip()


class Load(Process):
    """A load generator, which measures as often as it is asked."""

    def prepare(self, in_flight: int, calls: int) -> None:
        """Have it do what comes before `measure`, and is not measured.

        Raises:
            RuntimeError: It ended.
        """
        self._ask(f"prepare {in_flight} {calls}")

    def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        """Make it call; returns what `benchmarks.peers.trial.repeat` says.

        Raises:
            RuntimeError: It ended.
        """
        line = self._ask(f"{in_flight} {calls}")
        measured: dict[str, float] = msgspec.json.decode(line)
        return measured

    def _ask(self, words: str) -> str:
        assert self.popen.stdin is not None  # noqa: S101  # a pipe, see above
        self.popen.stdin.write(f"{words}\n")
        self.popen.stdin.flush()
        line = self._line()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended while measuring")
        return line


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children so far, in seconds."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(map(_own_cpu_seconds, family))


def _own_cpu_seconds(process: psutil.Process) -> float:
    try:
        return sum(_thread_nanoseconds(process.pid)) / 1e9
    except OSError:  # not Linux, or without schedstat
        times = process.cpu_times()
        return float(times.user + times.system)


def _thread_nanoseconds(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ended meanwhile
            yield int((task / "schedstat").read_text().split()[0])


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def python_peer(module: str, side: str, setting: Any) -> list[str]:
    """Return the command that runs one side of a module of `benchmarks.peers`."""
    words = [module, side, *map(str, setting)]
    return [sys.executable, "-m", "benchmarks.peers", *words]


def gokit() -> str:
    """Build the Go programs and return their path; "" where there is no Go."""
    go = shutil.which("go")
    if go is None:
        return ""
    folder = Path(tempfile.gettempdir()) / f"kitmsg-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    source = Path(__file__).parent / "peers" / "gokit"
    target = folder / "gokit"
    built = subprocess.run([go, "build", "-o", target, "."], cwd=source, check=False)
    return "" if built.returncode else str(target)
