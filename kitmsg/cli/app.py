"""The parser, the choice of the verb, and the one place where errors become words."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

from kitmsg.cli.output import EXIT_CODES, UsageError, exit_code, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["VERBS", "build_parser", "main"]

VERBS: Final = {
    "dev": "try services here: a bus, a worker, HTTP and reload, nothing to install",
    "run": "serve in production: worker processes that restart, drain and report",
    "gateway": "let others in: HTTP, gRPC or Thrift outside, the bus inside",
    "upstream": "put an API elsewhere on the bus: kitmsg upstream http URL --openapi FILE",
    "call": "call an endpoint: kitmsg call greeter.hello name=Ann",
    "ls": "list the services on the bus",
    "info": "show a service: its instances, endpoints and routes",
    "stats": "show what happened: requests, errors, latency",
    "discover": "show what an address means: kitmsg discover srv://_grpc._tcp.x --watch",
    "log-level": "say more for a while: kitmsg log-level orders debug --for 10m",
    "streams": "plan and make the streams that services declare; show them",
    "publish": "publish an event: kitmsg publish orders.placed order_id=A1",
    "events": "read the log of an event: kitmsg events orders.placed --since 1h --follow",
    "tell": "store a call until it is done: kitmsg tell mailer.send to=ann --after 10m",
    "schedules": "show what waits for its time; cancel it",
    "dead": "show what failed for good; replay it, drop it",
    "outbox": "publish what transactions committed: kitmsg outbox relay URL",
    "consumers": "show how far behind subscriptions are",
    "ping": "ask who is there, and how far away",
    "acl": "print NATS users with the least rights, made from services",
    "export": "write services as .proto or .thrift files",
    "new": "create a small project that runs and passes its tests",
}
"""The verbs and their help; each is a module beside this one."""


_REQUIRED: Final = "the following arguments are required: "  # argparse says so


class _Parser(argparse.ArgumentParser):
    """Argument parser that suggests the nearest name, instead of listing every choice.

    Args:
        fill: Adds the arguments when they are first needed; so the parser of one kind of
            gateway imports no other.
    """

    def __init__(
        self,
        *args: Any,
        fill: Callable[[argparse.ArgumentParser], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._fill = fill

    def parse_known_args(
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        self._check_options(args or [])
        return super().parse_known_args(args, namespace)

    def _check_options(self, words: Sequence[str]) -> None:
        """Refuse an option that is misspelt, before argparse misses what it would give."""
        own = itertools.takewhile(lambda word: word != "--", words)
        if self._subparsers is not None:  # those behind the verb or kind are its own
            own = itertools.takewhile(lambda word: word.startswith("-"), own)
        for word in own:
            name = word.partition("=")[0]
            is_option = name.startswith("--") and " " not in name
            if is_option and name not in self._option_string_actions:
                self.unknown(name)

    def unknown(self, name: str) -> NoReturn:
        """Refuse an option that there is not, with the nearest that there is."""
        known = {text.lstrip("-"): text for text in self._option_string_actions}
        near = difflib.get_close_matches(name.lstrip("-"), known, n=1)
        hint = f"did you mean {known[near[0]]}?" if near else f"see {self.prog} --help"
        fail(f"no such option {name}; {hint}")
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(each) for each in action.choices or ()]
        if not choices or str(value) in choices:
            return
        what = "/".join(action.option_strings) or self.prog
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        fail(f"{what} takes {_listed(choices)}, not {str(value)!r}{hint}")
        raise SystemExit(2)

    def error(self, message: str) -> NoReturn:
        message = self._lacking(message) or message
        fail(f"{message}; see {self.prog} --help")
        raise SystemExit(2)

    def _lacking(self, message: str) -> str:
        """Return which words may stand where argparse misses one of a few; else ""."""
        names = message.removeprefix(_REQUIRED)
        if names == message:
            return ""
        for action in self._get_positional_actions():
            if action.choices and (action.metavar or action.dest) in names.split(", "):
                return f"{self.prog} needs {_listed(list(action.choices))}"
        return ""


class _VerbsHelp(argparse.RawDescriptionHelpFormatter):
    """Help with a column that has room for the longest verb: argparse forgets its indent."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = max(map(len, VERBS)) + 4


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Args:
        only: Fill in this verb's arguments alone; None for every verb's.
    """
    parser = _Parser(
        prog="kitmsg",
        description="Typed services on NATS.",
        epilog=_exit_codes(),
        formatter_class=_VerbsHelp,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version and exit"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, text in VERBS.items():
        described = text[0].upper() + text[1:] + "."
        verb = verbs.add_parser(
            name,
            help=text,
            description=described,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if only is None or name == only:
            _module(name).add_arguments(verb)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: The arguments; by default this process's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(VERBS)}"
        fail(f"there is no verb {verb!r}; {hint}")
        return 2
    return _guarded(words, verb or "")


def _guarded(words: list[str], verb: str) -> int:
    """Parse the words and run the verb; a failure is one sentence and an exit code."""
    try:
        parser = build_parser(verb)
        options, rest = parser.parse_known_args(words)
        _take_rest(parser, options, rest)
        if options.verb is None:
            parser.print_help()
            return 0
        return int(_module(options.verb).run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone, as with ``kitmsg ls | head -1``.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        if os.environ.get("KITMSG_DEBUG") == "1":
            raise
        fail(_sentence(exc))
        return exit_code(exc)


def _listed(choices: Sequence[str]) -> str:
    """Return words as a sentence has them: a, b or c."""
    *others, last = filter(None, choices)
    return f"{', '.join(others)} or {last}" if others else last


def _module(verb: str) -> Any:
    return import_module(f"kitmsg.cli.{verb.replace('-', '_')}")


def _sentence(error: Exception) -> str:
    from kitmsg.errors import KitError

    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, KitError):
        text, rid = str(error), error.request_id
        return f"{text} (request {rid})" if rid and rid not in text else text
    return f"{type(error).__name__}: {error}; KITMSG_DEBUG=1 shows where"


def _exit_codes() -> str:
    rows = [f"  {code}  {text}" for code, text in EXIT_CODES.items()]
    return "exit codes:\n" + "\n".join(rows)


class _Version(argparse.Action):
    """Prints the version, looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import kitmsg

        print(f"kitmsg {kitmsg.__version__}")
        parser.exit()


def _take_rest(
    parser: argparse.ArgumentParser, options: argparse.Namespace, rest: list[str]
) -> None:
    """Add words that stand after an option to the verb's list of words.

    argparse fills a list once, from the words that stand together.
    """
    into: str = getattr(options, "rest", "")
    wrong = [
        word for word in rest if not into or (word.startswith("-") and word != "-")
    ]
    if wrong:
        verb, kind = options.verb or "", getattr(options, "kind", "")
        parser.prog = " ".join(filter(None, (parser.prog, verb, kind)))
        if wrong[0].startswith("-"):
            parser.error(f"no such option {wrong[0]}")
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    if rest:
        setattr(options, into, [*getattr(options, into), *rest])
