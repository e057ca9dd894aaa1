"""The command line: ``kitmsg VERB``.  One file per verb, loaded when it is used.

app.py      the parser, and what happens to errors
output.py   tables, colours, exit codes
remote.py   what verbs that talk to a bus share
run.py dev.py gateway.py call.py ls.py info.py stats.py ping.py new.py   the verbs
"""

from __future__ import annotations

from kitmsg.cli.app import build_parser, main

__all__ = ["build_parser", "main"]
