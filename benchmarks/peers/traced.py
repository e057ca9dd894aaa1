"""Peers with traces, and the same ones without; spans go to the sink of `benchmarks.tracing`.

The variant is a program and a mode.  Programs: ``kit``, ``gateway`` (``gateway-grpc``),
``aiohttp`` and ``grpcio``, the last two with OpenTelemetry's own instrumentation.  Modes:
``off``, ``none`` (the library is loaded, no SDK is set up), ``some`` (1 % sampled), ``all``.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

import kitmsg
from benchmarks.peers import grpcio, plain
from benchmarks.peers.kit import Calculator
from kitmsg.codec import JSON

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting

__all__ = ["SINK", "connect", "serve"]

SINK: Final = "KITMSG_BENCH_SINK"
"""Variable with the port that spans go to."""

_SHARES: Final = {"some": "0.01", "all": "1"}


async def serve(setting: Setting) -> Any:
    """Serve sum as the variant says."""
    program, mode = setting.variant.split()
    if program in ("aiohttp", "grpcio"):
        if mode != "off":
            _instrument(program)
        peer: Any = plain if program == "aiohttp" else grpcio
        return await peer.serve(setting._replace(variant="unary"))
    _trace(mode)
    kit = await kitmsg.connect(setting.url)
    if program == "kit":
        await kit.serve(_class(mode)())
        return kit
    kind = program.partition("-")[2] or "http"
    gateway = importlib.import_module(f"kitmsg_gateways.{kind}")
    return await gateway.serve(kit, port=setting.port)


async def connect(setting: Setting) -> Call:
    """Return a call of sum."""
    program, mode = setting.variant.split()
    if program in ("grpcio", "gateway-grpc"):
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{setting.port}")
        if program == "grpcio":
            return grpcio.summing(channel)
        service = f"calculator_{mode}.Calculator{mode.title()}"
        return grpcio.summing(channel, service)
    _trace(mode)
    kit = await kitmsg.connect(setting.url)
    client = kit.client(_class(mode), codec=JSON)
    return lambda: client.sum(1, 2)


def _class(mode: str) -> type[Calculator]:
    """Return a class with a name of its own on the bus."""
    return type("Calculator", (Calculator,), {"name": f"calculator-{mode}"})


def _trace(mode: str) -> None:
    if mode == "none":
        importlib.import_module("opentelemetry.trace")
    if mode not in _SHARES:
        return
    from kitmsg.tracing.setup import set_up

    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    os.environ["OTEL_TRACES_SAMPLER_ARG"] = _SHARES[mode]
    set_up(f"otlp://127.0.0.1:{os.environ[SINK]}")


def _instrument(program: str) -> None:
    """Set up OpenTelemetry's SDK and its instrumentation, all sampled."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    sink = f"http://127.0.0.1:{os.environ[SINK]}"
    exporter = OTLPSpanExporter(endpoint=sink, insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    if program == "aiohttp":
        from opentelemetry.instrumentation.aiohttp_server import (
            AioHttpServerInstrumentor,
        )

        AioHttpServerInstrumentor().instrument()
    else:
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorServer

        GrpcAioInstrumentorServer().instrument()
