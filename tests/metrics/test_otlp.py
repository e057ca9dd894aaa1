"""What a collector is told beside numbers: exemplars, units, whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.context import Context, enter
from kitmsg.message import Message, encode_headers
from tests.metrics.receivers.collector import Collector, OtlpReceiver
from tests.metrics.receivers.started import started

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def message(traceparent: str) -> Message:
    """Return a request that belongs to a trace."""
    return Message(
        "a.b", b"", header_block=encode_headers({"traceparent": traceparent})
    )


@pytest.mark.parametrize("by_http", [False, True], ids=["grpc", "http"])
async def test_a_collector_gets_exemplars_units_and_the_resource(
    by_http: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process is an instance of its own, unless the environment says which it is."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,team=pay")
    receiver = OtlpReceiver(started(Collector), by_http=by_http)
    times = receiver.metrics.histogram("exemplary_seconds", "Times.", bounds=(1.0, 2.0))
    enter(Context(message=message(f"00-{TRACE}-{SPAN}-01")))
    times.observe(1.5)
    enter(Context(message=message(f"00-{'1' * 32}-{SPAN}-00")))  # not sampled
    times.observe(0.5)
    await receiver.flush()
    found = receiver.server.metric("exemplary_seconds")
    assert (found["description"], found["unit"]) == ("Times.", "s")
    (point,) = found["histogram"]["dataPoints"]
    assert [int(count) for count in point["bucketCounts"]] == [1, 1, 0]
    (exemplar,) = point["exemplars"]
    ids = exemplar["traceId"], exemplar["spanId"], exemplar["asDouble"]
    assert ids == (TRACE, SPAN, 1.5)
    (resource,) = receiver.server.last
    attributes: dict[str, Any] = {
        each["key"]: each["value"]["stringValue"]
        for each in resource["resource"]["attributes"]
    }
    assert attributes["service.name"] == "shop"
    assert attributes["team"] == "pay"
    assert len(attributes["service.instance.id"]) == 36
    await receiver.close()
