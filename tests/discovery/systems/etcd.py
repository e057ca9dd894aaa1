"""One server of etcd, and its command line client."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import urllib.request
from typing import Any

from tests.discovery.systems.program import Program
from tests.ports import free_port
from tests.require import need

__all__ = ["Etcd"]


class Etcd:
    """The server.

    Args:
        flags: More flags of the server.
        scheme: ``https`` for one with TLS.
        client: Flags of ``etcdctl``.
    """

    def __init__(
        self, *flags: str, scheme: str = "http", client: tuple[str, ...] = ()
    ) -> None:
        self.port = free_port()
        self._url = f"{scheme}://127.0.0.1:{self.port}"
        self._client = [need("etcdctl"), f"--endpoints={self._url}", *client]
        peer = f"http://127.0.0.1:{free_port()}"
        command = [need("etcd"), "--data-dir", "data", "--logger", "zap"]
        command += [
            "--listen-client-urls",
            self._url,
            "--advertise-client-urls",
            self._url,
        ]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]
        self.program = Program([*command, *flags], self._is_healthy)
        self._is_plain = scheme == "http"
        self.program.start()

    def address(self, service: str, port: int | None = None) -> str:
        where = f"127.0.0.1:{port or self.port}"
        return f"etcd://{where}/services/{service}/?interval=0.3&timeout=0.5"

    def registration(self, service: str, port: int | None = None) -> str:
        where = f"127.0.0.1:{port or self.port}"
        return f"etcd://{where}/services/{service}/?ttl=2&timeout=0.5"

    async def put(self, service: str, count: int) -> set[str]:
        wanted = {f"10.0.0.8:{6000 + n}" for n in range(1, count + 1)}
        prefix = f"/services/{service}/"
        keys = (await self.run("get", "--prefix", "--keys-only", prefix)).split()
        for key in keys:
            if key.removeprefix(prefix) not in wanted:
                await self.run("del", key)
        for address in sorted(wanted):
            await self.run("put", prefix + address, address)
        return wanted

    async def forget(self, service: str) -> None:
        await self.run("del", "--prefix", f"/services/{service}/")

    async def run(self, *words: str, text: str = "") -> str:
        """Return what ``etcdctl`` prints."""
        return await asyncio.to_thread(self._run, words, text)

    def _run(self, words: Any, text: str) -> str:
        ran = subprocess.run(
            [*self._client, *words],
            check=True,
            capture_output=True,
            text=True,
            input=text,
            env={"ETCDCTL_API": "3"},
        )
        return ran.stdout

    def _is_healthy(self) -> bool:
        if not self._is_plain:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        with urllib.request.urlopen(f"{self._url}/health", timeout=1) as response:
            return b"true" in response.read()
