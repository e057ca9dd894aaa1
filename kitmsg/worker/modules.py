"""Source folders of the imported modules, as far as somebody may edit them.

That is the working folder and editable installs: not the standard library, not installed
packages, and not kitmsg.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

__all__ = ["edited_folders"]


def edited_folders() -> list[str]:
    """Return the folders that hold the modules loaded by now, sorted."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    skipped = {os.path.realpath(sysconfig.get_path(name)) for name in names}
    skipped |= {os.path.realpath(p) for p in sys.path if p.endswith("-packages")}
    skipped.add(str(Path(__file__).resolve().parents[1]))
    gateways = sys.modules.get("kitmsg_gateways")
    skipped.update(map(os.path.realpath, getattr(gateways, "__path__", ())))
    outside = tuple(folder + os.sep for folder in skipped)
    found = {folder for module in list(sys.modules.values()) for folder in _of(module)}
    return sorted(f for f in found if not (f + os.sep).startswith(outside))


def _of(module: object) -> list[str]:
    """Return the folders of one module: a namespace package may have several."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [os.path.realpath(os.path.dirname(file))]
    try:
        return [os.path.realpath(path) for path in getattr(module, "__path__", ())]
    except (TypeError, ValueError):  # a module may be any object
        return []
