"""Consul's agent in its mode for development: all in memory."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

from tests import peers
from tests.discovery.systems.program import Program
from tests.ports import free_port

__all__ = ["Consul"]


class Consul:
    """The agent, and its HTTP interface."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        ports = {
            "http-port": self.port,
            "dns-port": -1,
            "grpc-port": -1,
            "serf-lan-port": free_port(),
            "serf-wan-port": -1,
            "server-port": free_port(),
        }
        command = [peers.path("consul"), "agent", "-dev"]
        command += ["-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        self.program = Program([*command, *flags], self._has_leader)
        self.program.start()

    def address(self, service: str, port: int | None = None) -> str:
        return f"consul://127.0.0.1:{port or self.port}/{service}?wait=0.5&timeout=0.5"

    def registration(self, service: str, port: int | None = None) -> str:
        return f"consul://127.0.0.1:{port or self.port}/{service}?ttl=1&timeout=0.5"

    async def put(self, service: str, count: int) -> set[str]:
        return await asyncio.to_thread(self._put, service, count)

    def _put(self, service: str, count: int) -> set[str]:
        wanted = {f"{service}-{n}": 7000 + n for n in range(1, count + 1)}
        for id_ in self.services(service) - wanted.keys():
            self.ask("PUT", f"/v1/agent/service/deregister/{id_}")
        for id_, port in wanted.items():
            body = {"ID": id_, "Name": service, "Address": "10.0.0.9", "Port": port}
            self.ask("PUT", "/v1/agent/service/register", body)
        return {f"10.0.0.9:{port}" for port in wanted.values()}

    def services(self, service: str) -> set[str]:
        """Return the ids of the instances that the agent has."""
        found = self.ask("GET", "/v1/agent/services")
        return {id_ for id_, each in found.items() if each["Service"] == service}

    async def forget(self, service: str) -> None:
        for id_ in await asyncio.to_thread(self.services, service):
            path = f"/v1/agent/service/deregister/{id_}"
            await asyncio.to_thread(self.ask, "PUT", path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.loads(response.read() or b"null")

    def _has_leader(self) -> bool:
        nodes = self.ask("GET", "/v1/catalog/nodes")
        return bool(self.ask("GET", "/v1/status/leader")) and bool(nodes)
