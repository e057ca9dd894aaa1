"""Logs: the standard library's records, written alike for people or for machines.

    setup.py       one handler for the process
    console.py     lines for people
    machine.py     lines for machines: JSON and logfmt
    access.py      lines of calls as web servers write them
    event.py       a record's fields, safe to show
    turn.py        ids and names of the turn that a line was written in
    redact.py      secrets, by key and by pattern
    fold.py        repeated lines as one with a count
    levels.py      levels for a while, by logger
    structured.py  structlog's lines through the same

A program that has its own logging needs none of this: `TurnFilter` gives its handlers the ids
of the turn, and the formatters fit any handler, such as `logging.handlers.SysLogHandler`.
"""

from kitmsg.logs.console import ConsoleFormatter
from kitmsg.logs.machine import JsonFormatter, LogfmtFormatter
from kitmsg.logs.redact import Redactor
from kitmsg.logs.setup import FORMATS, set_up
from kitmsg.logs.turn import TurnFilter, turn_facts

__all__ = [
    "FORMATS",
    "ConsoleFormatter",
    "JsonFormatter",
    "LogfmtFormatter",
    "Redactor",
    "TurnFilter",
    "set_up",
    "turn_facts",
]
