"""``kitmsg acl``: three forms, and sentences for what it does not understand."""

from __future__ import annotations

import json

import pytest

from kitmsg.cli.acl import claims_of
from kitmsg.cli.app import main
from tests.cli.acl.users import USERS, printed


def test_buckets_are_given_by_name_too(capsys):
    """To a service, and so to the worker that serves it; or to a client."""
    words = ["--upstream=a", "--upstream=b", "--bucket=a=b1", "--bucket=client=b2"]
    claims = json.loads(printed(capsys, *words, "--format=claims"))
    writes = {
        each["name"]: [s for s in each["nats"]["pub"]["allow"] if s.startswith("$KV")]
        for each in claims
    }
    assert writes["a"] == writes["worker"] == ["$KV.b1.>"]
    assert writes["client"] == ["$KV.b2.>"]
    assert writes["b"] == writes["gateway"] == writes["cli"] == []


def test_the_command_prints_three_forms(capsys):
    """A configuration, the claims of JWTs, and nsc's commands; all with the same rights."""
    config = printed(capsys, "examples/greeter.py")
    assert "password: $KITMSG_PASSWORD_GREETER" in config
    assert "# NATS_INBOX_PREFIX=_INBOX_greeter" in config
    assert "user: worker" not in config
    claims = json.loads(printed(capsys, "examples/greeter.py", "--format", "claims"))
    greeter = next(each for each in claims if each["name"] == "greeter")
    assert greeter["nats"]["sub"]["allow"] == list(USERS["greeter"].subscribe)
    assert greeter["nats"]["resp"] == {"max": -1, "ttl": 60_000_000_000}
    nsc = printed(capsys, "examples/greeter.py", "--format", "nsc")
    assert (
        "nsc add user --name greeter --allow-pub '_kit.down.greeter,_kit.up.greeter'"
        in nsc
    )
    assert claims_of(USERS["greeter"]) == greeter
    key = "UDAIM6RESKG3MVIL4DSETBGK4XT3YHJTH3MWXFLUULWYWBJIYWGKEDEK"
    named = printed(capsys, "examples/greeter.py", "--nkey", f"greeter={key}")
    assert f"{{ nkey: {key}, permissions: {{" in named


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "no services"),
        (["examples/greeter.py", "--calls", "greeter"], "write NAME=NAME"),
        (["examples/greeter.py", "--calls", "greeter=far"], "no service 'far'"),
        (["examples/greeter.py", "--calls", "far=greeter"], "no service 'far'"),
        (["examples/greeter.py", "--nkey", "far=UX"], "no user 'far'"),
        (["examples/greeter.py", "--bucket", "far=b"], "--bucket: no user 'far'"),
        (["--service", "far"], "write NAME=SUBJECT,..."),
        (["--service", "far=far.a b"], "is not a subject"),
        (["--service", "far=$SYS.x"], "is not for services to serve"),
        (["--service", "far=>"], "is not for services to serve"),
        (["--upstream", "far", "--queue", "far=q"], "no --service 'far'"),
        (["--upstream", "far="], "write NAME or NAME=ENDPOINT,..."),
        (["--upstream", "far", "--service", "far=x"], "two services are named 'far'"),
        (["examples/greeter.py", "--nkey", "greeter=UX"], "no public key"),
    ],
)
def test_what_is_not_understood_is_a_sentence(
    words, why, capsys, tmp_path, monkeypatch
):
    """And exit code 2."""
    assert main(["acl", *words]) == 2
    assert why in capsys.readouterr().err
