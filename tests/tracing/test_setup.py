"""Where spans go, which are kept, and what becomes of them when a receiver is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from kitmsg import Service, endpoint, tracing
from kitmsg.errors import InvalidArgument
from kitmsg.tracing.conventions import bus_attributes
from kitmsg.tracing.exporters import check_address, export_of
from kitmsg.tracing.operations import RecordingTracer
from kitmsg.tracing.otlp import request_bytes
from kitmsg.tracing.pipeline import Pipeline
from kitmsg.tracing.sampling import Sampling, sampling_of
from kitmsg.tracing.setup import addresses_of, set_up
from kitmsg.worker.settings import Settings, load_settings
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg import Kit
    from tests.tracing.conftest import Spans


class Echo(Service):
    """Answers."""

    @endpoint
    async def go(self) -> str:
        found = tracing.current_ids()
        return "" if found is None else found[0]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ()),
        ({"OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp://127.0.0.1:4317",)),
        (
            {"OTEL_TRACES_EXPORTER": "console,zipkin"},
            ("console", "zipkin://127.0.0.1:9411"),
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, ("otlp://c:4317",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4317"}, ("otlps://c:4317",)),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            ("otlp+http://c:4318/v1/traces",),
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "zipkin",
                "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://z:1/api/v2/spans",
            },
            ("zipkin://z:1/api/v2/spans",),
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
                "OTEL_SDK_DISABLED": "true",
            },
            (),
        ),
    ],
)
def test_opentelemetrys_variables_count(
    environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    """As an SDK reads them."""
    assert addresses_of(environ) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("otlp://10.0.0.1", ("otlp", "http://10.0.0.1:4317")),
        ("otlps://c.example:443", ("otlp", "https://c.example:443")),
        ("otlp+http://c:4318", ("otlp+http", "http://c:4318/v1/traces")),
        ("otlp+https://c/x", ("otlp+http", "https://c:4318/x")),
        ("zipkin://[::1]", ("zipkin", "http://[::1]:9411/api/v2/spans")),
        ("console", ("console", "")),
    ],
)
def test_addresses_have_usual_ports_and_paths(
    address: str, expected: tuple[str, str]
) -> None:
    """Those of the protocol."""
    assert check_address(address) == expected


@pytest.mark.parametrize(
    "address", ["jaeger://x:1", "otlp://", "http://x", "otlp://x:y"]
)
def test_a_wrong_address_is_said_before_anything_starts(address: str) -> None:
    """In one sentence that shows the right ones."""
    with pytest.raises(InvalidArgument, match="otlp://127.0.0.1:4317"):
        Settings(traces=(address,))


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("OTEL_PROPAGATORS", "tracecontex", "Propagator tracecontex not found"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-3", "max_queue_size must be a positive integer"),
        ("OTEL_TRACES_SAMPLER_ARG", "7", "must be a share from 0 to 1"),
        ("OTEL_TRACES_EXPORTER", "jaeger", "traces go to otlp://"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "is grpc or http/protobuf"),
    ],
)
def test_a_wrong_variable_is_said_in_a_sentence(
    variable: str, value: str, sentence: str
) -> None:
    """In a process of its own: OpenTelemetry reads some when it is imported."""
    code = (
        "from kitmsg.errors import InvalidArgument\n"
        "from kitmsg.tracing.setup import set_up\n"
        "try:\n    set_up()\nexcept InvalidArgument as error:\n    print(error)\n"
    )
    environ = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        variable: value,
    }
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sentence in ran.stdout


@pytest.mark.parametrize(
    "address", ["otlp://me:secret@x", "zipkin://x?a=b", "otlp+http://x/v1#y"]
)
def test_what_an_address_cannot_say_is_refused_and_not_shown(address: str) -> None:
    """A user, an option: nobody would follow it."""
    with pytest.raises(InvalidArgument, match="no user and no options") as found:
        Settings(traces=(address,))
    assert "secret" not in str(found.value)


def test_addresses_come_from_flags_and_the_environment() -> None:
    """Several with commas."""
    found = load_settings({"traces": "console,zipkin://z"}, environ={})
    assert found.traces == ("console", "zipkin://z")
    assert load_settings({}, environ={"KITMSG_TRACES": "console"}).traces == (
        "console",
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Sampling(1 << 64, follows_parent=True)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, Sampling(0, follows_parent=False)),
        (
            {
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.5",
            },
            Sampling(1 << 63, follows_parent=True),
        ),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, None),
    ],
)
def test_samplers_are_opentelemetrys(
    environ: dict[str, str], expected: Sampling | None
) -> None:
    """By its variable; one of a plugin is its own business."""
    assert sampling_of(environ) == expected


def test_a_share_that_is_none_is_said() -> None:
    """With the variable's name."""
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}
    with pytest.raises(InvalidArgument, match="OTEL_TRACES_SAMPLER_ARG"):
        sampling_of(environ)


async def test_a_share_of_the_traces_is_kept_whole(
    kit: Kit, own_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each trace both spans, or none; and those not kept have an id all the same."""
    from tests.tracing.conftest import Spans

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.3")
    spans = Spans()
    set_up(exporter=spans.exporter)
    await kit.serve(Echo())
    client = kit.client(Echo)
    seen = [await client.go() for _ in range(300)]
    assert len(set(seen)) == 300
    traces: dict[str, int] = {}
    for span in spans.all():
        id_ = f"{span.context.trace_id:032x}"
        traces[id_] = traces.get(id_, 0) + 1
    assert 40 < len(traces) < 150
    assert set(traces.values()) == {2}
    bound = round(0.3 * 2**64)
    assert set(traces) == {one for one in seen if int(one[16:], 16) < bound}


async def test_nothing_is_made_where_nothing_is_configured(
    kit: Kit, own_process: None
) -> None:
    """Not even where the library is there."""
    assert tracing.tracer() is None
    await kit.serve(Echo())
    assert await kit.client(Echo).go() == ""
    assert set_up() is None


def test_the_core_works_without_the_library() -> None:
    """OpenTelemetry is an extra: nothing of kitmsg loads it by itself."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import kitmsg, kitmsg.worker.runtime, kitmsg.transport, kitmsg_gateways.edge.calls\n"
        "import kitmsg_gateways.upstream, kitmsg.cli.call, kitmsg_gateways.http.api\n"
        "from kitmsg import tracing; assert tracing.tracer() is None; tracing.event('x')\n"
        "from kitmsg.tracing.setup import set_up\n"
        "try: set_up('console')\n"
        "except kitmsg.errors.FailedPrecondition as exc: print(exc)\n"
    )
    environ = {n: v for n, v in os.environ.items() if not n.startswith("OTEL_")}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
    )
    assert "pip install 'kitmsg[otel]'" in ran.stdout


async def test_a_programs_own_sdk_is_left_alone(kit: Kit, own_process: None) -> None:
    """`OTEL_...` of the environment is its business then."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    assert set_up() is None
    assert trace.get_tracer_provider() is provider
    assert tracing.tracer() is not None


def _span(put: Any = lambda _: None) -> Any:
    tracer = RecordingTracer(Sampling(), put, lambda _: True)
    return tracer.client("shop.buy", bus_attributes("shop.buy", "shop.buy")).begin()


def _spans() -> list[Any]:
    """Return spans with everything that one can have."""
    spans = []
    for number in range(6):
        span = _span()
        span.waited(0.25 * number)
        if number > 1:
            span.parent = b"00f067aa0ba902b7"
            for value in ("text" * 100, 7, -1, 2.5, True, [1, 2], ("a", "b")):
                span.set_attribute(f"k{value!r:.5}", value)
            span.add_event("happened", {"a": 1, "b": "x" * 300})
            span.update_name("other")
            span.state = "vendor=x"
        if number > 3:
            span.add_link(_span().get_span_context(), {"why": "linked"})
            span.set_status(trace.Status(trace.StatusCode.ERROR, "broke"))
        span.finish()
        spans.append(span)
    return spans


def _plain(span: Any) -> Any:
    """Return a span of protobuf in one order, without what only says that it is default."""
    for each in (span, *span.links):
        each.ClearField("flags")
    if not span.status.code:
        span.ClearField("status")
    for of, key in ((span.attributes, "key"), (span.events, "name")):
        found = sorted(of, key=lambda one, key=key: getattr(one, key))  # type: ignore[misc]
        del of[:]
        of.extend(found)
    return span


def test_otlp_bytes_are_what_opentelemetry_writes() -> None:
    """Read back by its own classes, beside its own encoder's."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
    )
    from opentelemetry.sdk.resources import Resource

    from kitmsg.tracing.exporters import readable

    spans, resource = _spans(), Resource({"service.name": "x", "number": 3})
    ours = ExportTraceServiceRequest.FromString(
        request_bytes(dict(resource.attributes), spans)
    )
    theirs = encode_spans([readable(span, resource) for span in spans])
    (mine,), (yours,) = ours.resource_spans, theirs.resource_spans
    assert mine.resource == yours.resource
    both = zip(mine.scope_spans[0].spans, yours.scope_spans[0].spans, strict=True)
    assert [_plain(one) == _plain(other) for one, other in both] == [True] * 6


def test_more_spans_than_there_is_room_for_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The oldest go, memory is bounded, and one line says so."""
    gate = threading.Event()
    seen: list[Any] = []

    def export(spans: Sequence[Any]) -> bool:
        gate.wait(10)
        seen.extend(spans)
        return True

    environ = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
    pipeline = Pipeline([export], environ)
    for _ in range(500):
        pipeline.put(_span())
    assert pipeline.dropped >= 380
    gate.set()
    assert pipeline.flush(10)
    assert len(seen) == 500 - pipeline.dropped
    assert sum("spans are dropped" in r.message for r in caplog.records) == 1
    pipeline.close()


def test_a_receiver_that_is_gone_is_said_once_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line for each change."""
    answers = iter([False, ConnectionError("refused"), False, True, True])

    def export(_: Sequence[Any]) -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    caplog.set_level("INFO", "kitmsg.tracing")
    environ = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    pipeline = Pipeline([export], environ)
    for _ in range(5):
        pipeline.put(_span())
        assert pipeline.flush(10)
    lines = [r.message for r in caplog.records]
    assert len(lines) == 2
    assert "cannot be exported" in lines[0]
    assert "exported again" in lines[1]
    pipeline.close()


def test_receivers_that_are_gone_are_each_said_by_name(
    own_process: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the exporter's reason, and none of the exporter's own lines."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    port = free_port()
    gone = [f"{kind}://127.0.0.1:{port}" for kind in ("otlp", "otlp+http", "zipkin")]
    exports = [export_of(each, Resource.create()) for each in gone]
    pipeline = Pipeline(exports, {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}, names=gone)
    for _ in range(2):
        pipeline.put(_span())
        pipeline.flush(30)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3, lines
    for line, where in zip(lines, gone, strict=True):
        assert line.startswith(f"traces cannot be exported to {where}, and are lost: ")
        assert "it takes no spans" not in line
    folded = {record.msg for record in caplog.records}
    assert len(folded) == 3  # no kind of line hides another
    pipeline.close()


def test_an_end_is_an_end() -> None:
    """A second one changes nothing, as in Go kit's Zipkin; so does what is written after."""
    ended: list[Any] = []
    span = _span(ended.append)
    span.finish()
    stop = span.stop
    span.finish()
    span.end()
    span.set_attribute("late", 1)
    span.update_name("late")
    assert ended == [span]
    assert (span.stop, span.name, span.attributes) == (stop, "shop.buy", None)


def test_an_sdks_code_can_use_our_span(recorded: Spans) -> None:
    """As a context manager, as any span of OpenTelemetry's."""
    with pytest.raises(ZeroDivisionError), trace.use_span(_span(), end_on_exit=True):
        raise ZeroDivisionError
    inner = trace.get_tracer("x").start_span("plain", kind=SpanKind.PRODUCER)
    inner.end()
    assert recorded.one("plain").kind is SpanKind.PRODUCER


def test_opentracing_code_nests_where_it_runs(recorded: Spans) -> None:
    """By OpenTelemetry's shim: below our span, and above those that begin inside it."""
    from opentelemetry.shim.opentracing_shim import create_tracer

    tracer = tracing.tracer()
    assert tracer is not None
    opentracing = create_tracer(trace.get_tracer_provider())
    outer = tracer.server("turn", bus_attributes("turn", "turn")).begin()
    token = outer.enter()
    with opentracing.start_active_span("legacy") as scope:
        scope.span.set_tag("a", 1)
        call = tracer.client("shop.buy", bus_attributes("shop.buy", "shop.buy")).begin()
        call.finish()
    outer.leave(token)
    outer.finish()
    assert recorded.tree() == [
        "server turn",
        "  internal legacy",
        "    client shop.buy",
    ]
    assert recorded.one("legacy").attributes == {"a": 1}
