"""docs/edge.md names what there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from kitmsg_gateways.edge.admission import Connections
from kitmsg_gateways.edge.budget import Budget
from kitmsg_gateways.edge.metrics import Metrics
from kitmsg_gateways.grpc import options as grpc
from kitmsg_gateways.http import options as http
from kitmsg_gateways.mcp import options as mcp
from kitmsg_gateways.thrift import options as thrift

PAGE = (Path(__file__).parents[2] / "docs" / "edge.md").read_text()
EDGE = ("tls_", "jwt_", "jwks_", "basic_", "auth_", "cors_", "rate_", "principal_")
MORE = {"trusted_proxies", "proxy_header", "workers", "access_log", "reload_interval"}


def flags() -> dict[str, str]:
    """Return the flag of each option of a door, by name; of one that is on, its switch."""
    doors = (http, mcp, grpc, thrift)
    fields = [f for door in doors for f in dataclasses.fields(door.GatewayOptions)]
    switches = {field.name for field in fields if field.default is True}
    return {
        field.name: f"--{'no-' * (field.name in switches)}{field.name.replace('_', '-')}"
        for field in fields
    }


def test_every_option_of_the_edge_is_there() -> None:
    """By its flag."""
    known = flags()
    ours = {name for name in known if name.startswith(EDGE)} | MORE
    missing = [known[name] for name in sorted(ours) if f"{known[name]}" not in PAGE]
    assert not missing


def test_it_names_no_option_that_is_none() -> None:
    """Nor any that has gone."""
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert named - set(flags().values()) == {"--health", "--log-format"}


def test_its_metrics_are_those_of_the_code() -> None:
    """Each name in the table is on the page that Prometheus reads."""
    metrics = Metrics("http")
    metrics.connections = Connections(1)
    metrics.budget = Budget(1)
    page = metrics.exposition()
    for name in re.findall(r"^\| `(kitmsg_\w+)`", PAGE, re.MULTILINE):
        assert name in page
