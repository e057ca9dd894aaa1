"""The command line: ``kitmsg VERB``.  One file per verb, loaded when it is used.

    app.py      the parser, and what happens to errors
    output.py   tables, colours, exit codes; progress.py: how far it is
    remote.py   what verbs that talk to a bus share
    samples.py  lines to try, made from schemas
    banner.py   the table that ``kitmsg dev`` shows
    tree.py     the spans of one call as a tree
    reload.py   files that changed; ports.py: ports that are free
    stored.py   what verbs on what is stored share; exported.py: events to export
    fields.py   flags made of the fields of a dataclass

Each verb has `add_arguments` and `run`:

    dev.py run.py new.py call.py
    ls.py info.py stats.py ping.py discover.py log_level.py
    gateway.py upstream.py export.py acl.py
    streams.py publish.py events.py tell.py schedules.py dead.py consumers.py outbox.py
"""

from __future__ import annotations

from kitmsg.cli.app import build_parser, main

__all__ = ["build_parser", "main"]
