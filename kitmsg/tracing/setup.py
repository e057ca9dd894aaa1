"""The pipeline that flags or the environment ask for, set up once in a process.

kitmsg's own spans take the short way of `kitmsg.tracing.spans`; those that users' code
begins through OpenTelemetry's API are made by its SDK, which is set globally with exporters
to the same addresses.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

    from kitmsg.tracing.seam import Tracer

__all__ = ["addresses_of", "set_up"]

_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
_PROTOCOLS: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
)


def addresses_of(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the addresses that ``OTEL_...`` names; none if it says nothing of traces.

    Raises:
        InvalidArgument: It names another protocol than gRPC and HTTP with protobuf.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ()
    named = environ.get("OTEL_TRACES_EXPORTER", "")
    endpoint = next((environ[n] for n in _ENDPOINTS if environ.get(n)), "")
    if not named:
        named = "otlp" if endpoint else "none"
    found = (_address(each.strip(), endpoint, environ) for each in named.split(","))
    return tuple(each for each in found if each)


def _address(named: str, endpoint: str, environ: Mapping[str, str]) -> str:
    if named in ("", "none"):
        return ""
    if named == "zipkin":
        where = environ.get("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "")
        return where.replace("http", "zipkin", 1) or "zipkin://127.0.0.1:9411"
    if named != "otlp":
        return named
    variable = next((n for n in _PROTOCOLS if environ.get(n)), "")
    protocol = environ[variable] if variable else "grpc"
    if protocol not in ("grpc", "http/protobuf"):
        raise InvalidArgument(f"{variable} is grpc or http/protobuf, not {protocol!r}")
    if protocol == "grpc":
        where = (
            endpoint if "://" in endpoint else f"http://{endpoint or '127.0.0.1:4317'}"
        )
        return where.replace("http", "otlp", 1)
    where = endpoint or "http://127.0.0.1:4318"
    if not environ.get(_ENDPOINTS[0]) and not where.endswith("/v1/traces"):
        where = where.rstrip("/") + "/v1/traces"  # the general one is a base
    return f"otlp+{where}"


def set_up(
    *addresses: str,
    service: str = "kitmsg",
    all_errors: bool = False,
    gathers: bool = False,
    exporter: SpanExporter | None = None,
) -> Tracer | None:
    """Export spans from now on; see `kitmsg.tracing.exporters` for addresses.

    Sampling, bounds and resource come from ``OTEL_...``.  Call it before clients, services
    and gateways are made.

    Args:
        addresses: Where to; by default what ``OTEL_...`` names.
        service: ``service.name``, unless ``OTEL_SERVICE_NAME`` or
            ``OTEL_RESOURCE_ATTRIBUTES`` has it.
        all_errors: Whether business errors make a span an error.
        gathers: Whether spans are made for callers that ask for them, even if nothing is
            exported.
        exporter: Another one, beside the addresses.

    Returns:
        The tracer; None where nothing is asked for, or the program has set an SDK of
            its own globally, which makes the spans then.

    Raises:
        InvalidArgument: An address or a variable is wrong.
        FailedPrecondition: A library is missing.
    """
    from kitmsg import tracing

    wanted = addresses or addresses_of()
    if not (wanted or gathers or exporter):
        return None
    if tracing.tracer() is not None and not addresses:
        return None
    try:
        made = _made(wanted, service, all_errors, gathers, exporter)
    except ImportError as exc:
        raise FailedPrecondition(
            f"traces need a library: pip install 'kitmsg[otel]' ({exc})"
        ) from exc
    except ValueError as exc:  # a propagator, a bound: OpenTelemetry's own words
        raise InvalidArgument(f"a variable OTEL_... is wrong: {exc}") from exc
    tracing.use(made)
    return made


def _made(
    addresses: Sequence[str],
    service: str,
    all_errors: bool,
    gathers: bool,
    exporter: SpanExporter | None,
) -> Tracer:
    from kitmsg.tracing import exporters
    from kitmsg.tracing.foreign import ForeignTracer
    from kitmsg.tracing.gathered import Bag
    from kitmsg.tracing.operations import RecordingTracer
    from kitmsg.tracing.otlp import packed
    from kitmsg.tracing.pipeline import Pipeline
    from kitmsg.tracing.sampling import Sampling, sampling_of
    from kitmsg.tracing.sdk import provider_of

    resource = _resource(service)
    Bag.process = str(resource.attributes.get("service.name", service))
    is_on = bool(addresses or exporter)
    sampling = sampling_of() if is_on else Sampling(0, follows_parent=False)
    provider = provider_of(addresses, resource, exporter=exporter, gathers=gathers)
    if sampling is None:  # a sampler of a plugin: its judgement needs the SDK's spans
        return ForeignTracer(provider, all_errors=all_errors)
    exports = [exporters.export_of(each, resource) for each in addresses]
    if exporter is not None:
        exports.append(exporters.exporting(exporter, resource))
    is_packed = exporter is None and all(map(exporters.takes_bytes, addresses))
    pack = packed if is_packed else None
    pipeline = Pipeline(exports, names=addresses, pack=pack)

    def flush(timeout: float) -> bool:
        return pipeline.flush(timeout) and provider.force_flush(int(timeout * 1000))

    return RecordingTracer(
        sampling, pipeline.put, flush, all_errors=all_errors, gathers=gathers
    )


def _resource(service: str) -> Resource:
    from opentelemetry.sdk.resources import Resource

    named = Resource.create()
    name = str(named.attributes.get("service.name", ""))
    if name and not name.startswith("unknown_service"):
        return named
    return named.merge(Resource({"service.name": service}))
