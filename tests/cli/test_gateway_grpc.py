"""``kitmsg gateway grpc`` and ``kitmsg upstream grpc``, as processes."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

import kitmsg
from kitmsg.bus.nats import NatsBus
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

GATEWAY = ["-m", "kitmsg.cli", "gateway", "grpc", "--port", "0"]


def address_of(command: Command) -> str:
    """Return where a gateway listens, once it does."""
    command.says("ready at")
    found = re.search(r"ready at grpc://(\S+)", command.output)
    assert found
    return found[1]


def price(address: str, name: str) -> float:
    """Call the shop as a client that knows its address alone."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("shop.Shop").methods_by_name["Price"]
        call = channel.unary_unary(
            "/shop.Shop/Price",
            lambda message: message.SerializeToString(),
            GetMessageClass(method.output_type).FromString,
        )
        answer: Any = call(GetMessageClass(method.input_type)(name=name), timeout=10)
        return float(answer.value)


def test_serves_what_is_on_the_bus(shop: str, tmp_path: Path) -> None:
    """Services of other processes are called over gRPC; SIGTERM ends it with 0."""
    with Command(GATEWAY, tmp_path, nats_url=shop) as command:
        assert price(address_of(command), "tea") == 2.5
        assert command.output.count("grpc://") == 1  # said once
        command.send(signal.SIGTERM)
        assert command.ends() == 0
        assert "Traceback" not in command.output


def test_several_processes_share_one_port(shop: str, tmp_path: Path) -> None:
    """With workers, health and metrics are the supervisor's, and add up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        health = f"127.0.0.1:{probe.getsockname()[1]}"
    words = [*GATEWAY, "--workers", "2", "--health", health]
    with Command(words, tmp_path, nats_url=shop) as command:
        address = address_of(command)
        command.says("ready at", 2)
        assert command.output.count("grpc://") == 2  # each once
        assert command.output.count("2 workers number what changes") == 1
        for _ in range(6):
            assert price(address, "tea") == 2.5
        with urllib.request.urlopen(f"http://{health}/healthz", timeout=5) as page:
            assert len(json.load(page)["workers"]) == 2
        with urllib.request.urlopen(f"http://{health}/metrics", timeout=5) as page:
            text = page.read().decode()
        counts = re.findall(r"_gateway_requests_total\{(.*)\} (\d+)", text)
        assert sum(int(n) for at, n in counts if '"shop.price"' in at) == 6
        command.send(signal.SIGTERM)
        assert command.ends() == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--proto", "no.proto"], "there is no file no.proto"),
        (["--timeout", "0"], "timeout must be positive"),
        (
            ["--tls-cert", "no.pem", "--tls-key", "no.pem"],
            "cannot use the certificate in no.pem",
        ),
        (["--forward-metadata", "grpc-x"], "'grpc-x' cannot be forwarded"),
        (["--lock", "no.lock"], "the lock no.lock cannot be used"),
    ],
)
def test_a_wrong_option_is_a_sentence(
    cli: Callable[..., Ran], words: list[str], sentence: str
) -> None:
    """Said at once, before there is a bus."""
    ran = cli("gateway", "grpc", *words)
    assert ran.code not in (0, 1)
    assert sentence in ran.err


def test_puts_a_grpc_service_on_the_bus(shop: str, tmp_path: Path) -> None:
    """A gateway's own service comes back under another name, through two processes."""
    with Command(GATEWAY, tmp_path, nats_url=shop) as gateway:
        words = ["-m", "kitmsg.cli", "upstream", "grpc", address_of(gateway)]
        words += ["--reflection", "--service", "shop.Shop", "--as", "remote"]
        with Command(words, tmp_path, nats_url=shop) as command:
            command.says("remote 0.1.0 is serving")

            async def call() -> Any:
                async with kitmsg.connect(bus=await NatsBus.connect(shop)) as kit:
                    return await kit.call("remote.price", name="tea", count=2)

            assert asyncio.run(call()) == {"value": 5.0}
            command.send(signal.SIGTERM)
            assert command.ends() == 0
