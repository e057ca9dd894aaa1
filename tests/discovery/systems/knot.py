"""Knot DNS with one zone, ``x.test``, whose records tests decide."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from typing import Final

from tests.discovery.systems.program import Program
from tests.ports import free_port
from tests.require import need

__all__ = ["Knot", "Names", "Records"]

_CONFIG: Final = """
server:
    listen: 127.0.0.1@{port}
    rundir: {folder}
    user: root
control:
    listen: {folder}/sock
database:
    storage: {folder}/db
zone:
  - domain: x.test
    storage: {folder}
    file: x.test.zone
    zonefile-load: whole
    journal-content: none
"""

_SOA: Final = """
@ 1 SOA ns.x.test. me.x.test. {serial} 60 60 3600 1
@ 1 NS ns.x.test.
ns A 127.0.0.1
"""


class Knot:
    """The server."""

    def __init__(self) -> None:
        need("knotd")
        self.port = free_port()
        self.records: dict[str, str] = {}
        self._serial = 1
        self.program = Program([need("knotd"), "-c", "knot.conf"], self._answers)
        config = _CONFIG.format(port=self.port, folder=self.program.folder)
        (self.program.folder / "knot.conf").write_text(config)
        self._write()
        self.program.start()

    def set(self, name: str, records: str) -> None:
        """Replace the records of a name: lines of a zone file, ``@`` for the name."""
        self.records[name] = records
        self._write()
        control = ["knotc", "-s", str(self.program.folder / "sock")]
        subprocess.run(
            [*control, "-b", "zone-reload", "x.test"], check=True, capture_output=True
        )

    def _write(self) -> None:
        self._serial += 1
        lines = [
            line.strip().replace("@", name)
            for name, records in self.records.items()
            for line in records.splitlines()
            if line.strip()
        ]
        text = "$ORIGIN x.test.\n$TTL 1\n" + _SOA.format(serial=self._serial)
        zone = self.program.folder / "x.test.zone"
        zone.write_text(text + "\n".join(lines) + "\n")

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


class Names:
    """Instances as A records of a name."""

    def __init__(self, knot: Knot) -> None:
        self.knot = knot
        self.program = knot.program

    def address(self, service: str, port: int | None = None) -> str:
        where = f"resolver=127.0.0.1:{self.knot.port}"
        return (
            f"dns://{service}.x.test:8080?{where}&min_ttl=0.1&max_ttl=0.1&timeout=0.4"
        )

    async def put(self, service: str, count: int) -> set[str]:
        hosts = [f"10.0.0.{n}" for n in range(1, count + 1)]
        records = "\n".join(f"@ 1 A {host}" for host in hosts) or "@ 1 TXT none"
        await asyncio.to_thread(self.knot.set, service, records)
        return {f"{host}:8080" for host in hosts}


class Records:
    """Instances as SRV records."""

    def __init__(self, knot: Knot) -> None:
        self.knot = knot
        self.program = knot.program

    def address(self, service: str, port: int | None = None) -> str:
        where = f"resolver=127.0.0.1:{self.knot.port}"
        return f"srv://_grpc._tcp.{service}.x.test?{where}&min_ttl=0.1&max_ttl=0.1&timeout=0.4"

    async def put(self, service: str, count: int) -> set[str]:
        records = [
            f"@ 1 SRV 10 5 {8000 + n} host{n}.{service}.x.test."
            for n in range(1, count + 1)
        ]
        for n in range(1, count + 1):
            self.knot.records[f"host{n}.{service}"] = f"@ 1 A 10.0.1.{n}"
        text = "\n".join(records) or "@ 1 TXT none"
        await asyncio.to_thread(self.knot.set, f"_grpc._tcp.{service}", text)
        return {f"10.0.1.{n}:{8000 + n}" for n in range(1, count + 1)}
