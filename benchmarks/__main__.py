"""``python -m benchmarks [VERB]``; without a verb, those that compare."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks import compare, goals, readme
from benchmarks.fleet import gokit

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_COMPARED: Final = {
    "rpc": (compare.RPC, "1,64,512"),
    "http": (compare.HTTP, "32"),
    "grpc": (compare.GRPC, "64"),
    "thrift": (compare.THRIFT, "64"),
    "stream": (compare.STREAM, "1,8"),
    "websocket": (compare.WEBSOCKET, "32,256"),
}
_ALONE: Final = (
    "layers",
    "mailbox",
    "codec",
    "idle",
    "guard",
    "figures",
    "faults",
    "overload",
    "balance",
    "tracing",
    "metrics",
    "upstreams",
    "resilience",
    "discovery",
    "followers",
    "events",
)
_USUAL: Final = (*_COMPARED, "mailbox", "codec", "idle")
_JSON_ONLY: Final = ("http", "grpc", "thrift", "websocket")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what `argv` says and print it; returns the exit code.

    Args:
        argv: Arguments; those of the process by default.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        for verb in [options.verb] if options.verb else _USUAL:
            found, text = run(verb, options)
            print(msgspec.json.encode(found).decode() if options.json else text)
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:  # every process has been ended
        return 130
    return 0


def run(verb: str, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return what a verb measured, for machines and for people."""
    if verb in _COMPARED:
        return _compare(verb, options)
    module = importlib.import_module(f"benchmarks.{verb}")
    rows = module.measure(options)
    return {"verb": verb, "rows": rows}, module.report(rows)


def _compare(verb: str, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    everybody, usual = _COMPARED[verb]
    go = gokit()
    known = [*everybody, *(compare.LAYERS[1:-1] if verb == "rpc" else ())]
    wanted = options.peers or [peer.name for peer in everybody]
    peers = compare.available(known, wanted, go=go)
    samples = [
        sample
        for codec in (["json"] if verb in _JSON_ONLY else options.codec)
        for sample in compare.compare(
            peers,
            codec=codec,
            in_flight=options.in_flight or _numbers(usual),
            rounds=options.rounds,
            calls=options.calls,
            go=go,
        )
    ]
    rows = compare.summary(samples)
    if options.svg:
        options.svg.write_text(readme.chart_of(verb, rows))
    if options.readme and verb == "rpc":
        readme.write(rows, rounds=options.rounds)
    reached = goals.check(verb, samples)
    text = compare.report(rows) + goals.report(reached)
    return {"verb": verb, "rows": rows, "goals": reached}, text


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _numbers(text: str) -> list[int]:
    return [_number(word) for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("verb", nargs="?", choices=[*_COMPARED, *_ALONE], metavar="VERB")
    add("--calls", type=_number, default=20_000, help="calls in each measurement")
    add("--rounds", type=_number, default=3, help="how often each is measured")
    add("--in-flight", type=_numbers, metavar="N,...", help="calls at once")
    add("--codec", type=_words, default=["json"], help="json, msgpack or both")
    add(
        "--peers",
        type=_words,
        default=[],
        metavar="NAME,...",
        help="only these; the others are compared with the first",
    )
    add(
        "--only",
        type=_words,
        default=[],
        metavar="NAME,...",
        help="of figures, faults or events",
    )
    add("--quick", action="store_true", help="figures in their short form")
    add("--json", action="store_true", help="for machines")
    add("--svg", type=Path, metavar="FILE", help="draw the chart of rpc or http")
    add("--readme", action="store_true", help="write chart and text of the README")
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
