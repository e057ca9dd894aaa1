"""Options that doors have alike are checked, and are flags, alike."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import pytest

from kitmsg.cli.fields import add_fields, chosen
from kitmsg_gateways.edge.options import AuthOptions, EdgeOptions, SocketOptions
from kitmsg_gateways.grpc import GatewayOptions as Grpc
from kitmsg_gateways.http import GatewayOptions as Http
from kitmsg_gateways.thrift import GatewayOptions as Thrift

DOORS = pytest.mark.parametrize("cls", [Http, Grpc, Thrift])


@DOORS
def test_every_door_has_the_options_of_the_edge(cls: type[EdgeOptions]) -> None:
    """Of the same names, with the same help, wherever it is told."""
    help_of = _help(cls)
    common = _help(EdgeOptions)
    assert common
    assert {name: help_of[name] for name in common} == common


@DOORS
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": 0}, "timeout must be positive, not 0"),
        ({"max_timeout": float("nan")}, "max_timeout must be positive"),
        ({"port": -1}, "port must not be negative"),
        ({"tls_client_ca": "x"}, "tls_client_ca needs tls_cert"),
        ({"metrics_port": 1, "workers": 2}, "metrics_port is for one process"),
        ({"middleware": "x:y"}, "middleware is a tuple of texts"),
    ],
)
def test_what_does_not_fit_is_said(
    cls: type[EdgeOptions], options: dict[str, Any], sentence: str
) -> None:
    """In one sentence that names the option."""
    with pytest.raises(ValueError, match=sentence):
        cls(**options)


@DOORS
def test_what_is_chosen_with_flags_is_what_is_said(cls: type[EdgeOptions]) -> None:
    """By way of a command line."""
    parser = argparse.ArgumentParser()
    add_fields(parser, cls)
    words = "--port 7 --max-timeout 9 --no-reuse-port --access-log"
    options = chosen(cls, parser.parse_args(words.split()))
    assert options == cls(port=7, max_timeout=9, access_log=True)
    assert options.at("::1", None) == dataclasses.replace(options, host="::1")


@DOORS
@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("", ""),
        ("--access-log", "line"),
        ("--access-log --port 7", "line"),
        ("--access-log common", "common"),
        ("--access-log json --no-access-log", ""),
    ],
)
def test_a_format_of_access_logs_is_chosen(
    cls: type[EdgeOptions], words: str, form: str
) -> None:
    """With a word behind the flag, or without."""
    parser = argparse.ArgumentParser()
    add_fields(parser, cls)
    assert chosen(cls, parser.parse_args(words.split())).access_format == form


@DOORS
def test_a_format_that_is_none_is_refused(cls: type[EdgeOptions]) -> None:
    """With those that there are."""
    with pytest.raises(
        ValueError, match="one of line, common, combined, json, not 'x'"
    ):
        cls(access_log="x")


def test_groups_of_options_stand_alone() -> None:
    """A new door takes those it needs."""
    assert SocketOptions().max_connections == 20_000
    with pytest.raises(ValueError, match="two places for one thing"):
        AuthOptions(jwt_key="a", jwks_url="b")


def _help(cls: Any) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_fields(parser, cls)
    return {
        action.dest: (action.help or "").partition(" (default")[0]
        for action in parser._actions
        if action.dest != "help"
    }
