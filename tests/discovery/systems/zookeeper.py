"""One server of ZooKeeper."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from pathlib import Path

import kazoo.client
import kazoo.exceptions

from tests.discovery.systems.program import Program
from tests.ports import free_port
from tests.require import miss

__all__ = ["ZooKeeper"]

_START = Path("/usr/share/zookeeper/bin/zkServer.sh")
_CONFIG = """
tickTime=100
dataDir={folder}/data
clientPort={port}
clientPortAddress=127.0.0.1
admin.enableServer=false
maxClientCnxns=0
4lw.commands.whitelist=*
"""


class ZooKeeper:
    """The server."""

    def __init__(self) -> None:
        if not _START.exists():
            miss("ZooKeeper is not installed; apt-get install zookeeper")
        self.port = free_port()
        folder = Path(tempfile.mkdtemp(prefix="kitmsg-system-"))
        self.program = Program(
            [str(_START), "start-foreground", str(folder / "zoo.cfg")],
            self._is_ok,
            folder=folder,
            environment={"ZOO_LOG4J_PROP": "WARN,CONSOLE", "JVMFLAGS": "-Xmx128m"},
        )
        config = _CONFIG.format(folder=folder, port=self.port)
        (folder / "zoo.cfg").write_text(config)
        self.program.start()

    def address(self, service: str, port: int | None = None) -> str:
        where = f"127.0.0.1:{port or self.port}"
        return f"zk://{where}/services/{service}?session=1&timeout=1"

    def registration(self, service: str, port: int | None = None) -> str:
        where = f"127.0.0.1:{port or self.port}"
        return f"zk://{where}/services/{service}?session=1&timeout=1"

    async def put(self, service: str, count: int) -> set[str]:
        return await asyncio.to_thread(self._put, service, count)

    def _put(self, service: str, count: int) -> set[str]:
        wanted = {f"10.0.0.7:{5000 + n}" for n in range(1, count + 1)}
        client = self.client()
        path = f"/services/{service}"
        client.ensure_path(path)
        for name in set(client.get_children(path)) - wanted:
            client.delete(f"{path}/{name}")
        for name in sorted(wanted):
            try:
                client.create(f"{path}/{name}", name.encode())
            except kazoo.exceptions.NodeExistsError:
                client.set(f"{path}/{name}", name.encode())
        _end(client)
        return wanted

    async def forget(self, service: str) -> None:
        await asyncio.to_thread(self._forget, service)

    def _forget(self, service: str) -> None:
        client = self.client()
        for name in client.get_children(f"/services/{service}"):
            client.delete(f"/services/{service}/{name}")
        _end(client)

    def client(self) -> kazoo.client.KazooClient:
        """Return a client that is connected."""
        # A server that has just come up may let the first connection hang: it is given up
        # after the session's time, which the server bounds to 2 s anyway.
        client = kazoo.client.KazooClient(
            f"127.0.0.1:{self.port}", timeout=2, connection_retry={"max_tries": -1}
        )
        client.start(20)
        return client

    def _is_ok(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
            # One that has just come up says "imok" before it takes sessions.
            sock.sendall(b"srvr")
            answer = b""
            while piece := sock.recv(4096):
                answer += piece
            return b"Mode: " in answer


def _end(client: kazoo.client.KazooClient) -> None:
    client.stop()
    client.close()
