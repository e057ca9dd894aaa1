"""The access log and metrics of the Thrift gateway."""

from __future__ import annotations

import logging

from tests.gateways.thrift.messages import call, text
from tests.gateways.thrift.services import Greeter


async def test_an_access_log_has_a_line_for_each_call(hub, start, caplog):
    """Who, what, how it ended, how long."""
    await hub.serve(Greeter())
    outside = await start(hub, access_log=True)
    with caplog.at_level(logging.INFO, "kitmsg_gateways.thrift.access"):
        await outside.raw(call(b"hello", 1, text("A") + b"\0") + call(b"crash", 2), 2)
    records = [r for r in caplog.records if r.name == "kitmsg_gateways.thrift.access"]
    assert sorted(record.message for record in records) == [
        "greeter.crash internal",
        "greeter.hello ok",
    ]
    assert {record.client for record in records} == {"127.0.0.1"}
    assert all(record.ms >= 0 and record.request_id for record in records)


async def test_an_access_log_may_be_as_web_servers_write_it(hub, start, capsys):
    """Common Log Format, on standard output."""
    await hub.serve(Greeter())
    outside = await start(hub, access_log="common")
    await outside.raw(call(b"hello", 1, text("A") + b"\0") + call(b"crash", 2), 2)
    ends = sorted(
        line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()
    )
    assert ends == [
        '"CALL /greeter.crash THRIFT" 500 -',
        '"CALL /greeter.hello THRIFT" 200 -',
    ]


async def test_metrics_tell_of_calls_and_connections(hub, start):
    """In Prometheus' terms."""
    await hub.serve(Greeter())
    outside = await start(hub)
    await outside.raw(
        call(b"hello", 1, text("A") + b"\0") + call(b"hello", 2, b"\x63\0"), 0
    )
    families = {family.name: family for family in outside.server.metrics.collect()}
    assert {
        "kitmsg_gateway_requests_total",
        "kitmsg_gateway_duration_seconds",
        "kitmsg_gateway_in_flight",
        "kitmsg_gateway_connections",
        "kitmsg_gateway_connections_closed_total",
    } <= set(families)
    count = outside.server.metrics.count
    assert count("greeter.hello", "ok") == 1
    (closed,) = families["kitmsg_gateway_connections_closed_total"].samples
    assert closed == ({"gateway": "thrift", "reason": "malformed"}, 1)
