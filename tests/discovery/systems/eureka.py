"""Eureka's server, without the caches that make tests slow."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from tests import peers
from tests.discovery.systems.program import Program
from tests.ports import free_port
from tests.require import need

__all__ = ["Eureka"]

_SETTINGS = {
    "server.address": "127.0.0.1",
    "eureka.client.register-with-eureka": "false",
    "eureka.client.fetch-registry": "false",
    "eureka.server.use-read-only-response-cache": "false",
    # A read beside a registration may put an answer without it into this one.
    "eureka.server.response-cache-auto-expiration-in-seconds": "1",
    "eureka.server.eviction-interval-timer-in-ms": "300",
    "eureka.server.enable-self-preservation": "false",
    "eureka.server.wait-time-in-ms-when-sync-empty": "0",
    "spring.main.banner-mode": "off",
}
_QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx160m"]


class Eureka:
    """The server, and its HTTP interface."""

    def __init__(self) -> None:
        self.port = free_port()
        settings = {**_SETTINGS, "server.port": str(self.port)}
        command = [need("java"), *_QUICK, "-jar", peers.path("eureka")]
        command += [f"--{name}={value}" for name, value in settings.items()]
        self.program = Program(command, self._is_up)
        self.program.start()

    def address(self, service: str, port: int | None = None) -> str:
        where = f"127.0.0.1:{port or self.port}"
        return f"eureka://{where}/eureka/{service}?interval=0.1&timeout=0.5"

    def registration(self, service: str, port: int | None = None) -> str:
        where = f"127.0.0.1:{port or self.port}"
        return f"eureka://{where}/eureka/{service}?ttl=2&timeout=0.5"

    async def put(self, service: str, count: int) -> set[str]:
        return await asyncio.to_thread(self._put, service.upper(), count)

    def _put(self, service: str, count: int) -> set[str]:
        wanted = {f"10.0.0.6:{4000 + n}" for n in range(1, count + 1)}
        for id_ in self._ids(service) - wanted:
            self.ask("DELETE", f"/apps/{service}/{id_}")
        for address in sorted(wanted):
            host, port = address.split(":")
            instance = {
                "instanceId": address,
                "app": service,
                "hostName": host,
                "ipAddr": host,
                "status": "UP",
                "port": {"$": int(port), "@enabled": "true"},
                "dataCenterInfo": {
                    "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                    "name": "MyOwn",
                },
                "leaseInfo": {"durationInSecs": 3600},
            }
            self.ask("POST", f"/apps/{service}", {"instance": instance})
        return wanted

    async def forget(self, service: str) -> None:
        for id_ in await asyncio.to_thread(self._ids, service.upper()):
            await asyncio.to_thread(
                self.ask, "DELETE", f"/apps/{service.upper()}/{id_}"
            )

    def _ids(self, service: str) -> set[str]:
        try:
            found = self.ask("GET", f"/apps/{service}")
        except urllib.error.HTTPError:
            return set()
        return {each["instanceId"] for each in found["application"]["instance"]}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/eureka{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read() or b"null")

    def _is_up(self) -> bool:
        return self.ask("GET", "/apps") is not None
