"""The spans of one call as a tree, with times: ``kitmsg call --trace``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, paint
from kitmsg.message import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kitmsg.tracing.gathered import Bag, Gathered

__all__ = ["gathering", "show_tree", "tree_lines"]

_HIDDEN: Final = frozenset(
    {
        *("rpc.system.name", "rpc.method", "rpc.response.status_code"),
        *("messaging.system", "messaging.destination.name", "error.type"),
    }
)
_NS_IN_MS: Final = 1e6


@contextlib.contextmanager
def gathering() -> Iterator[Bag]:
    """Have the calls inside ask for their spans; gives what comes back.

    Raises:
        UsageError: The library is missing.
    """
    try:
        from opentelemetry import context

        from kitmsg.tracing.gathered import BAG, Bag
        from kitmsg.tracing.setup import set_up
    except ImportError as exc:
        raise UsageError("--trace needs a library: pip install 'kitmsg[otel]'") from exc
    set_up(service="kitmsg call", gathers=True)
    bag = Bag()
    token = context.attach(context.set_value(BAG, bag))
    try:
        yield bag
    finally:
        context.detach(token)


def show_tree(bag: Bag) -> None:
    """Print the tree to standard error, beside the answer."""
    spans = bag.spans()
    for line in tree_lines(spans):
        print(line, file=sys.stderr)
    if not any(span.kind == "server" for span in spans):
        hint = (
            "the service told no spans; kitmsg dev does, and kitmsg run --trace-replies"
        )
        print(paint(hint, "33", sys.stderr), file=sys.stderr)


def tree_lines(spans: Sequence[Gathered]) -> list[str]:
    """Return a line for each span: start and length in ms, its place, its name.

    Args:
        spans: Of one trace, in any order.
    """
    if not spans:
        return []
    known = {span.id for span in spans}
    below: dict[str, list[Gathered]] = {}
    for span in sorted(spans, key=lambda one: one.start):
        above = span.parent if span.parent in known and span.parent != span.id else ""
        below.setdefault(above, []).append(span)
    zero = min(span.start for span in spans)
    lines: list[str] = []

    def add(parent: str, indent: str) -> None:
        children = below.pop(parent, [])
        for number, span in enumerate(children, 1):
            is_last = number == len(children)
            branch = "" if not indent and not parent else ("└─ " if is_last else "├─ ")
            lines.append(_line(span, zero, indent + branch))
            inner = indent + ("" if not branch else "   " if is_last else "│  ")
            lines.extend(_events(span, zero, inner))
            add(span.id, inner)

    add("", "")
    return lines


def _line(span: Gathered, zero: int, place: str) -> str:
    took = (span.stop - span.start) / _NS_IN_MS
    begin = (span.start - zero) / _NS_IN_MS
    status = str(span.attributes.get("rpc.response.status_code", "OK"))
    told = [f"{span.kind} {span.name}", *_facts(span.attributes)]
    if span.process:
        told.append(f"({span.process})")
    text = printable(" ".join(told))
    if span.failure is not None or status != "OK":
        why = printable(f"{status} {span.failure or ''}".strip())
        text = f"{text} {paint(why, '31', sys.stderr)}"
    return f"{begin:9.2f} {took:9.2f} ms  {place}{text}"


def _facts(attributes: dict[str, Any]) -> list[str]:
    return [f"{n}={v}" for n, v in sorted(attributes.items()) if n not in _HIDDEN]


def _events(span: Gathered, zero: int, place: str) -> Iterator[str]:
    for at, name, attributes in span.events:
        facts = " ".join(_facts(attributes))
        begin = (at - zero) / _NS_IN_MS
        yield printable(f"{begin:9.2f}               {place}· {name} {facts}".rstrip())
