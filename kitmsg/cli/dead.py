"""``kitmsg dead``: dead letters, looked at, replayed and dropped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, table, to_json
from kitmsg.cli.progress import Progress
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.cli.stored import moment, payload, read_since
from kitmsg.message import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from kitmsg.jetstream import Stored
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_EPILOG: Final = """\
  kitmsg dead ls                            what failed for good, and why
  kitmsg dead show 17                       one, with its headers and payload
  kitmsg dead replay 17                     give it to the subscription that failed, once more
  kitmsg dead replay --name mailer.thank --since 1h
  kitmsg dead drop --reason 'no such customer' --all

replay and drop take numbers, or filters; without either they need --all.
"""
_MOST_NUMBER: Final = (1 << 64) - 1
_HEADS: Final = ("NUMBER", "DIED", "FOR", "ATTEMPTS", "SUBJECT", "REASON")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("what", choices=("ls", "show", "replay", "drop"))
    parser.add_argument("numbers", nargs="*", default=[], type=int, metavar="NUMBER")
    parser.add_argument(
        "--name", default="", metavar="SERVICE[.SUBSCRIPTION]", help="for whom"
    )
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="has it in its reason"
    )
    parser.add_argument(
        "--since", default="", metavar="TIME", help="1h, a time, or a number"
    )
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """List, show, replay or drop; returns the exit code."""
    has_filter = options.name or options.reason or options.since
    if options.what == "show" and len(options.numbers) != 1:
        raise UsageError("name one number, as in kitmsg dead show 17")
    if options.what in ("replay", "drop") and not (
        options.numbers or has_filter or options.all
    ):
        raise UsageError(
            f"kitmsg dead {options.what}: give numbers, a filter, or --all"
        )
    work = {"ls": _list, "show": _show, "replay": _replay, "drop": _drop}[options.what]
    return on_bus(options, lambda kit: work(kit, options))


async def _list(kit: Kit, options: argparse.Namespace) -> int:
    found = [_facts(letter) for letter in await _letters(kit, options)]
    if options.json:
        print(to_json(found))
    elif not found:
        print("nothing is dead")
    else:
        keys = ("number", "died", "for", "attempts", "subject", "reason")
        print(table(_HEADS, [[each[key] for key in keys] for each in found]))
    return 0


async def _show(kit: Kit, options: argparse.Namespace) -> int:
    (letter,) = await _letters(kit, options)
    facts = {**_facts(letter), "headers": dict(letter.headers)}
    if options.json:
        print(to_json({**facts, "data": letter.data}))
        return 0
    for key in ("number", "died", "for", "attempts", "subject", "reason"):
        print(f"{key:8}  {facts[key]}")
    for name, value in letter.headers.items():
        if not name.lower().startswith("nats-"):
            print(f"{printable(name)}: {printable(value)}")
    print(payload(letter.data))
    return 0


async def _replay(kit: Kit, options: argparse.Namespace) -> int:
    from kitmsg.events.dead import replay

    async def act(letter: Stored) -> None:
        await replay(kit.jetstream, letter)

    await _each(await _letters(kit, options), act, "replayed")
    return 0


async def _drop(kit: Kit, options: argparse.Namespace) -> int:
    from kitmsg.events.dead import DEAD

    async def act(letter: Stored) -> None:
        await (await kit.jetstream.stream(DEAD)).delete(letter.sequence)

    await _each(await _letters(kit, options), act, "dropped")
    return 0


async def _each(
    letters: list[Stored], act: Callable[[Stored], Awaitable[None]], done: str
) -> None:
    """Do something with each letter; where it is cut short, say how far it came."""
    count = 0
    try:
        with Progress(len(letters)) as progress:
            for letter in letters:
                await act(letter)
                count += 1
                progress.at(count)
    except BaseException:
        print(f"kitmsg: {count} of {len(letters)} {done}", file=sys.stderr)
        raise
    print(f"{count} {done}")


async def _letters(kit: Kit, options: argparse.Namespace) -> list[Stored]:
    """Return the dead letters that a command is about.

    All of them, before anything is done: one that is replayed may die again meanwhile.

    Raises:
        NotFound: One that is named by its number is not there.
    """
    from kitmsg.errors import NotFound
    from kitmsg.events.dead import DEAD
    from kitmsg.wire import DEAD_REASON

    if options.numbers:
        numbers = dict.fromkeys(options.numbers)
        return [await _letter(kit, number) for number in numbers]
    try:
        stream = await kit.jetstream.stream(DEAD)
    except NotFound:
        return []
    service, _, name = options.name.partition(".")
    pattern = f"{DEAD}.{service or '*'}.{name or '*'}"
    since = read_since(options.since, kit.jetstream.now())
    begins: dict[str, Any] = {}
    if since is not None:
        begins = (
            {"sequence": since}
            if isinstance(since, int)
            else {"since": since.timestamp()}
        )
    return [
        letter
        async for letter in stream.read(pattern, **begins)
        if options.reason in letter.headers.get(DEAD_REASON, "")
    ]


async def _letter(kit: Kit, number: int) -> Stored:
    """Return the dead letter of a number; a replay that waits in the same stream is none."""
    from kitmsg.errors import NotFound
    from kitmsg.events.dead import DEAD

    missing = NotFound(f"there is no dead letter {number}; see kitmsg dead ls")
    if not 0 < number <= _MOST_NUMBER:
        raise missing
    try:
        letter = await (await kit.jetstream.stream(DEAD)).get(number)
    except NotFound as error:
        raise missing from error
    if not letter.subject.startswith(f"{DEAD}."):
        raise missing
    return letter


def _facts(letter: Stored) -> dict[str, Any]:
    from kitmsg.events.dead import DEAD
    from kitmsg.wire import DEAD_ATTEMPTS, DEAD_REASON, DEAD_SUBJECT

    return {
        "number": letter.sequence,
        "died": moment(letter.time),
        "for": letter.subject.removeprefix(f"{DEAD}."),
        "attempts": letter.headers.get(DEAD_ATTEMPTS, ""),
        "subject": printable(letter.headers.get(DEAD_SUBJECT, "")),
        "reason": printable(letter.headers.get(DEAD_REASON, "")),
    }
