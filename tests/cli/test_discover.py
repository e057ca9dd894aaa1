"""``kitmsg discover``: addresses of every kind, shown."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from kitmsg import Kit, Service, endpoint
from kitmsg.cli import main
from tests.discovery.systems.knot import Knot

if TYPE_CHECKING:
    import pytest

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.nats import NatsBus


class Payments(Service):
    """Pays."""

    version = "1.2.3"

    @endpoint
    async def pay(self) -> None:
        """Pay."""


def test_given_addresses_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "10.0.0.5:80,10.0.0.6:80"]) == 0
    heads, first, second = capsys.readouterr().out.splitlines()
    assert heads.split()[:3] == ["ADDRESS", "PRIORITY", "WEIGHT"]
    assert first.split() == ["10.0.0.5:80", "0", "1"]
    assert second.split()[0] == "10.0.0.6:80"


def test_json_has_all_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "a:1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {
        "address": "a:1",
        "priority": 0,
        "weight": 1.0,
        "zone": "",
        "version": "",
        "tags": [],
        "metadata": {},
    }


def test_a_wrong_address_and_a_silent_system_are_sentences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["discover", "konsul://a/b"]) == 2
    assert "known are host:port, bus:, consul://" in capsys.readouterr().err
    assert main(["discover", "bus:a.b"]) == 2  # without a bus
    assert "a.b" in capsys.readouterr().err
    assert main(["discover", "consul://127.0.0.1:1/b"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot connect: " in line


async def test_instances_on_the_bus_are_found(
    nats_server: EmbeddedServer, nats_bus: NatsBus
) -> None:
    host = await Kit(nats_bus).serve(Payments)
    import asyncio

    command = [sys.executable, "-m", "kitmsg", "discover", "bus:payments"]
    ran = await asyncio.create_subprocess_exec(
        *command, "-s", nats_server.url, stdout=subprocess.PIPE
    )
    out, _ = await ran.communicate()
    assert out.decode().splitlines()[1].split()[0] == host.id
    assert "1.2.3" in out.decode()


def test_watch_shows_every_change_until_it_is_interrupted() -> None:
    knot = Knot()
    knot.set("pay", "@ 1 A 10.0.0.1")
    where = f"resolver=127.0.0.1:{knot.port}&min_ttl=0.1&max_ttl=0.1"
    address = f"dns://pay.x.test:80?{where}"
    command = [sys.executable, "-m", "kitmsg", "discover", address]
    with subprocess.Popen(
        [*command, "--watch", "--json"], stdout=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stdout is not None
        (first,) = json.loads(ran.stdout.readline())
        knot.set("pay", "@ 1 A 10.0.0.2")
        (second,) = json.loads(ran.stdout.readline())
        ran.send_signal(signal.SIGINT)
        assert ran.wait(20) == 0
    assert [first["address"], second["address"]] == ["10.0.0.1:80", "10.0.0.2:80"]
    knot.program.kill()
