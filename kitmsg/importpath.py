"""Import path: the user's folder comes after the standard library.

A project may have modules named ``types``, ``http`` or ``queue``.  Were its folder first on
`sys.path`, as ``python -m`` puts it, everything that imports those would get the wrong ones.

The packages `kitmsg` and `kitmsg_gateways` import this before anything else, and being
imported it does its part for ``python -m kitmsg``.  It needs nothing that a folder could
shadow: only what Python itself has loaded by then.
"""

from __future__ import annotations

import os
import sys

__all__ = ["add_folder"]


def add_folder(folder: str) -> None:
    """Let modules be imported from `folder`, where the standard library has none of that name.

    It comes before installed packages, as a script's own folder does.
    """
    if folder not in sys.path:
        sys.path.insert(_end_of_stdlib(), folder)


def _leave_working_folder() -> None:
    """Take the working folder off the path in ``python -m kitmsg...``, and only there."""
    is_ours = sys.argv[:1] == ["-m"] and _module_run().startswith("kitmsg")
    if is_ours and not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]


def _module_run() -> str:
    """Return what stands after ``-m``, while Python looks for it and `sys.argv` has ``-m``."""
    return sys.orig_argv[-len(sys.argv)].removeprefix("-m")


def _end_of_stdlib() -> int:
    """Return the index in `sys.path` after the standard library's last folder."""
    import sysconfig

    names = ("stdlib", "platstdlib")
    folders = {os.path.realpath(sysconfig.get_path(name)) for name in names}
    folders |= {os.path.join(folder, "lib-dynload") for folder in folders}
    places = [os.path.realpath(place) for place in sys.path]
    return 1 + max((i for i, p in enumerate(places) if p in folders), default=-1)


_leave_working_folder()
