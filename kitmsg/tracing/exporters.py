"""Exporters by address, and spans in the form that OpenTelemetry's exporters take.

    otlp://HOST:4317             OTLP over gRPC; +s for TLS: otlps://
    otlp+http://HOST:4318        OTLP over HTTP; otlp+https://
    zipkin://HOST:9411           Zipkin v2 JSON; zipkins://
    console                      one JSON object for each span, on stdout

A path may follow over HTTP; by default it is the protocol's own.  Headers, certificates and
the like come from ``OTEL_EXPORTER_OTLP_...``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.tracing.conventions import (
    MAILBOX,
    MAILBOX_SECONDS,
    RPC_STATUS,
    SCHEMA_URL,
    SCOPE,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from kitmsg.tracing.pipeline import Export
    from kitmsg.tracing.spans import RecordedSpan
    from kitmsg.tracing.turns import Ended

__all__ = [
    "check_address",
    "export_of",
    "exporter_of",
    "exporting",
    "readable",
    "takes_bytes",
]

_PORTS: Final = {
    "otlp": 4317,
    "otlps": 4317,
    "otlp+http": 4318,
    "otlp+https": 4318,
    "zipkin": 9411,
    "zipkins": 9411,
}
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_PATHS: Final = {"otlp+http": "/v1/traces", "zipkin": "/api/v2/spans"}
_EXAMPLE: Final = (
    "otlp://127.0.0.1:4317, otlp+http://127.0.0.1:4318, zipkin://127.0.0.1:9411"
    " or console"
)


def check_address(address: str) -> tuple[str, str]:
    """Return the scheme of an address, without TLS's letter, and its URL.

    Raises:
        InvalidArgument: It is none.
    """
    if address == "console":
        return address, ""
    found = urlsplit(address)
    try:
        host, port = found.hostname, found.port
    except ValueError:
        host = port = None
    if found.scheme not in _PORTS or not host:
        raise InvalidArgument(f"traces go to {_EXAMPLE}, not to {address!r}")
    if found.query or found.fragment or "@" in found.netloc:
        raise InvalidArgument(
            f"an address of traces has no user and no options, as that at {host} has; headers"
            " and the like come from OTEL_EXPORTER_OTLP_..."
        )
    bare = found.scheme.removesuffix("s")
    web = "https" if bare != found.scheme else "http"
    path = "" if bare == "otlp" else found.path.rstrip("/") or _PATHS[bare]
    name = f"[{host}]" if ":" in host else host
    return bare, f"{web}://{name}:{port or _PORTS[found.scheme]}{path}"


def exporter_of(address: str) -> SpanExporter:
    """Return OpenTelemetry's exporter to an address.

    Raises:
        InvalidArgument: It is no address.
        FailedPrecondition: Its library is missing.
    """
    kind, url = check_address(address)
    try:
        return _MAKERS[kind](url)
    except ImportError as exc:
        raise FailedPrecondition(
            f"traces to {address} need a library: pip install 'kitmsg[otel]' ({exc})"
        ) from exc


def _grpc(url: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=url, insecure=url.startswith("http:"))


def _http(url: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=url)


def _zipkin(url: str) -> SpanExporter:
    from opentelemetry.exporter.zipkin.json import ZipkinExporter
    from opentelemetry.exporter.zipkin.json.v2 import JsonV2Encoder

    class Encoder(JsonV2Encoder):
        """Leaves out tags without a value, for which Zipkin refuses a whole batch.

        A tracer without a version has one: `get_tracer("shop")`.
        """

        def serialize(self, spans: Any, local_endpoint: Any) -> str:
            encoded = json.loads(super().serialize(spans, local_endpoint))
            for span in encoded:
                tags = span.get("tags") or {}
                span["tags"] = {n: v for n, v in tags.items() if v is not None}
            return json.dumps(encoded)

    exporter = ZipkinExporter(endpoint=url)
    exporter.encoder = Encoder()  # type: ignore[assignment]  # it is told too narrowly
    return exporter


def _console(_: str) -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    def line(span: ReadableSpan) -> str:
        return f"{span.to_json(indent=None)}\n"

    return ConsoleSpanExporter(formatter=line)


_MAKERS: Final[Mapping[str, Callable[[str], SpanExporter]]] = {
    "otlp": _grpc,
    "otlp+http": _http,
    "zipkin": _zipkin,
    "console": _console,
}


def takes_bytes(address: str) -> bool:
    """Tell whether spans go to an address as the bytes of `kitmsg.tracing.otlp`."""
    return check_address(address)[0] == "otlp"


def export_of(address: str, resource: Resource) -> Export:
    """Return what sends kitmsg's own spans to an address.  Raises as `exporter_of`."""
    if takes_bytes(address):
        try:
            return _otlp_export(check_address(address)[1], resource)
        except ImportError:
            pass  # `exporter_of` says which library is missing
    return exporting(exporter_of(address), resource)


def exporting(exporter: SpanExporter, resource: Resource) -> Export:
    """Return what hands kitmsg's own spans to an exporter."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    from kitmsg.tracing.spans import RecordedSpan

    def export(spans: Sequence[Ended]) -> bool:
        found = [
            readable(span if isinstance(span, RecordedSpan) else span.span(), resource)
            for span in spans
        ]
        return exporter.export(found) is SpanExportResult.SUCCESS

    return export


def _otlp_export(url: str, resource: Resource) -> Export:
    """Return what sends spans as the bytes of `kitmsg.tracing.otlp`, over gRPC.

    Connection, headers and retries are those of OpenTelemetry's exporter; only what it
    makes of spans is not, and that it makes an object of protobuf of it.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    from kitmsg.tracing.otlp import request_bytes

    attributes = dict(resource.attributes)

    class Bytes:
        def __init__(self, channel: Any) -> None:
            self.Export = channel.unary_unary(_EXPORT)  # bytes in, bytes out

    class Exporter(OTLPSpanExporter):
        def _translate_data(self, data: Any) -> Any:
            return request_bytes(attributes, data)

    exporter: Any = Exporter(endpoint=url, insecure=url.startswith("http:"))
    exporter._stub = Bytes  # noqa: SLF001  it makes its client of this, now and later
    exporter._client = Bytes(exporter._channel)  # noqa: SLF001

    def export(spans: Sequence[Ended | bytes]) -> bool:
        return bool(exporter.export(spans) is SpanExportResult.SUCCESS)

    return export


def readable(span: RecordedSpan, resource: Resource) -> ReadableSpan:
    """Return a span as an SDK's exporters and processors see it."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, Status, StatusCode

    operation, own = span.operation, span.get_span_context()
    parent = None
    if span.parent:
        parent = SpanContext(
            own.trace_id, int(span.parent, 16), True, own.trace_flags, own.trace_state
        )
    attributes: dict[str, Any] = {**operation.attributes, **(span.attributes or {})}
    if span.code and operation.has_status:
        attributes[RPC_STATUS] = span.code
    events = [Event(name, given, at) for at, name, given in span.events or ()]
    if span.wait is not None:
        events.insert(0, Event(MAILBOX, {MAILBOX_SECONDS: span.wait}, span.begun))
    status = Status()
    if span.failure is not None:
        status = Status(StatusCode.ERROR, span.failure)
    return ReadableSpan(
        name=span.name,
        context=own,
        parent=parent,
        resource=resource,
        attributes=attributes,
        events=events,
        links=list(span.links),
        kind=operation.kind,
        status=status,
        start_time=span.start,
        end_time=span.stop,
        instrumentation_scope=InstrumentationScope(SCOPE, "", SCHEMA_URL),
    )
