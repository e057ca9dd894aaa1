"""Tables line up, JSON is plain, and every kind of error has an exit code."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime

import pytest

from kitmsg.cli.output import EXIT_CODES, UsageError, exit_code, table, to_json, usage
from kitmsg.cli.ports import free_port
from kitmsg.errors import Code, FailedPrecondition, NotFound, error_for


def test_columns_line_up() -> None:
    """Text stands left, numbers stand right, under their heads."""
    text = table(("NAME", "N"), [("a", 5), ("longer", 12)])
    assert text.splitlines() == ["NAME     N", "a        5", "longer  12"]
    assert table(("NAME",), []) == ""


def test_versions_are_no_numbers() -> None:
    """What only looks like a number stands left."""
    assert table(("VERSION",), [("0.1.0",)]).splitlines()[1] == "0.1.0"


@pytest.mark.parametrize("code", Code)
def test_every_code_has_an_exit_code(code: Code) -> None:
    """No kind of error exits with 0, or with a number that --help does not explain."""
    assert exit_code(error_for(code, "")) in set(EXIT_CODES) - {0, 2}


@pytest.mark.parametrize("code", [c for c in Code if c is not Code.DEADLINE_EXCEEDED])
def test_an_endpoints_own_error_exits_with_1(code: Code) -> None:
    """Whatever its code; but one of a service that did not let the request in is told apart."""
    error = error_for(code, "")
    usual = exit_code(error)
    error.reply = "what told of it"
    assert exit_code(error) == 1
    assert exit_code(error.before("a.b")) == usual


def test_mistakes_in_a_command_exit_with_2() -> None:
    """Inside `usage` an error is the command's, whatever its code."""
    with pytest.raises(UsageError, match="no such file") as caught, usage():
        raise NotFound("no such file")
    assert exit_code(caught.value) == 2


def test_json_is_plain() -> None:
    """Times, bytes and keys that are not text become what JSON has."""
    value = {1: b"hi", "at": datetime(2030, 1, 2, tzinfo=UTC)}
    assert json.loads(to_json(value)) == {"1": "aGk=", "at": "2030-01-02T00:00:00Z"}
    assert to_json([1, "é"], is_compact=True) == '[1,"é"]'


def test_finds_the_next_free_port() -> None:
    """A taken port gives way to a later one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_a_port_that_cannot_be_is_said() -> None:
    """A number that is no port is a sentence."""
    with pytest.raises(FailedPrecondition, match="no port from 70000 on"):
        free_port(70000)
