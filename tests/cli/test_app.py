"""The command line helps those who mistype, and starts fast."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.cli import build_parser
from kitmsg.cli.app import VERBS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran


def test_help_lists_verbs_and_exit_codes(cli: Callable[..., Ran]) -> None:
    """--help names every verb, and what each exit code means."""
    ran = cli("--help")
    assert ran.code == 0
    assert all(f"\n    {verb} " in ran.out for verb in VERBS)
    assert "4  no answer in time" in ran.out


def test_without_a_verb_it_helps(cli: Callable[..., Ran]) -> None:
    """No arguments at all print the help."""
    assert cli().out == cli("--help").out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli: Callable[..., Ran], verb: str) -> None:
    """Each verb describes itself."""
    ran = cli(verb, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"usage: kitmsg {verb}")


def test_the_public_parser_knows_every_verb() -> None:
    """`build_parser` gives the whole grammar, for docs and completion."""
    options = build_parser().parse_args(["call", "a.b", "x=1"])
    assert (options.verb, options.name, options.pairs) == ("call", "a.b", ["x=1"])


def test_version(cli: Callable[..., Ran]) -> None:
    """--version prints name and version."""
    assert cli("--version").out == f"kitmsg {kitmsg.__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cal"], "there is no verb 'cal'; did you mean 'call'?"),
        (["zzz"], "there is no verb 'zzz'; there are dev, run"),
        (["call"], "the following arguments are required: SERVICE.ENDPOINT"),
        (["ls", "--jsn"], "no such option --jsn; did you mean --json?"),
        (["gateway", "http", "--x"], "see kitmsg gateway http --help"),
        (["call", "--nats-ulr", "x", "a.b"], "did you mean --nats-url?"),
        (["dead", "--jsn"], "no such option --jsn; did you mean --json?"),
        (["gateway", "http", "--prt=1"], "option --prt; did you mean --port?"),
        (["upstream", "http", "--opnapi", "x"], "did you mean --openapi?"),
        (["--verison"], "no such option --verison; did you mean --version?"),
        (["ls", "-q"], "no such option -q; see kitmsg ls --help"),
        (
            ["dead"],
            "kitmsg dead needs ls, show, replay or drop; see kitmsg dead --help",
        ),
        (
            ["dead", "lst"],
            "takes ls, show, replay or drop, not 'lst'; did you mean 'ls'?",
        ),
        (["streams"], "kitmsg streams needs plan, apply, ls or show; see"),
        (["gateway"], "kitmsg gateway needs grpc, http, mcp or thrift; see"),
        (["gateway", "htp"], "not 'htp'; did you mean 'http'?"),
        (["run", "a:A", "--log-format", "jsn"], "not 'jsn'; did you mean 'json'?"),
        (["call", "a.b", "x"], "'x' is not key=value"),
        (["call", "a.b", "--data", "[1]"], "--data is not a JSON object"),
        (["call", "a.b", "--data", "{"], "--data is not JSON"),
        (["call", "a.b", "--data", "{}", "-"], "by --data or by -, not both"),
        (["call", "a.b", "--json", "{}"], "'{}' is not key=value; give JSON by --data"),
        (["call", "a.b", "--timeout", "0"], "--timeout must be more than 0"),
        (["run"], "nothing to serve: write kitmsg run module:Class"),
        (["run", "a:A", "--workers", "x"], "--workers is 'x'; write a whole number"),
        (["dev"], "nothing to serve: write kitmsg dev greeter.py"),
        (["dev", "no_such.py"], "there is no file 'no_such.py'"),
        (["dev", "x.py", "--grpc", "x"], "'x' is not a port"),
        (["new", "1 project"], "'1 project' cannot name a project"),
    ],
)
def test_a_wrong_command_is_a_sentence(
    cli: Callable[..., Ran], words: list[str], sentence: str
) -> None:
    """A mistake gets one line that says what to do, and code 2."""
    ran = cli(*words)
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


@pytest.mark.parametrize("verb", VERBS)
def test_a_misspelt_option_of_any_verb_gets_a_hint(
    cli: Callable[..., Ran], verb: str
) -> None:
    """It is said before the words that it may have taken for its own."""
    kinds = {"gateway": ["grpc"], "upstream": ["grpc"], "export": ["proto"]}
    ran = cli(verb, *kinds.get(verb, ()), "--hlep")
    assert ran.code == 2
    assert ran.err == "kitmsg: no such option --hlep; did you mean --help?\n"


@pytest.mark.parametrize("words", [["ls"], ["call", "a.b"], ["stats"], ["ping"]])
def test_without_a_bus_it_says_what_to_do(
    cli: Callable[..., Ran], words: list[str]
) -> None:
    """A bus that is not there is one sentence, with where it was looked for."""
    ran = cli(*words)
    assert ran.code == 3
    assert "no NATS server at nats://127.0.0.1:1" in ran.err
    assert "kitmsg dev" in ran.err
    assert ran.err.count("\n") == 1


def test_help_loads_little() -> None:
    """The help comes without the bus, HTTP, or anything that only a verb needs."""
    code = (
        "import sys, kitmsg; before = set(sys.modules); import kitmsg.cli.app as a\n"
        "a.build_parser('').format_help()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert {name for name in loaded if name.startswith("kitmsg")} <= {
        "kitmsg.cli",
        "kitmsg.cli.app",
        "kitmsg.cli.output",
    }
    assert not loaded & {"asyncio", "aiohttp", "nats", "watchfiles"}


def test_a_bug_is_a_sentence_too(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is one line; KITMSG_DEBUG=1 shows the traceback."""

    def broken(_: object) -> int:
        raise RuntimeError("oops")

    monkeypatch.setattr("kitmsg.cli.ls.run", broken)
    ran = cli("ls")
    assert ran.code == 1
    assert ran.err == "kitmsg: RuntimeError: oops; KITMSG_DEBUG=1 shows where\n"
    monkeypatch.setenv("KITMSG_DEBUG", "1")
    with pytest.raises(RuntimeError, match="oops"):
        cli("ls")


@pytest.mark.parametrize("text", ["it broke", "the log has it under request id r1"])
def test_a_request_is_named_once(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """An error ends with its request id, unless its own text says it."""

    def broken(_: object) -> int:
        error = kitmsg.errors.Internal(text)
        error.request_id = "r1"
        raise error

    monkeypatch.setattr("kitmsg.cli.ls.run", broken)
    ran = cli("ls")
    assert ran.code == 1
    assert ran.err.count("r1") == 1


def test_the_parent_stays_light() -> None:
    """What ``kitmsg run`` needs for its parent loads no bus and no HTTP."""
    code = (
        "import sys, kitmsg; before = set(sys.modules)\n"
        "import kitmsg.cli.run, kitmsg.worker.parent\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert "kitmsg.worker.supervisor" in loaded
    assert not loaded & {"nats", "aiohttp", "uvloop", "kitmsg.bus.nats"}
