"""``kitmsg export thrift``: an exporter, see `kitmsg.worker.plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes

__all__ = ["LOCK", "SUFFIX", "TITLE", "generate"]

TITLE: Final = "Thrift"
LOCK: Final = "kitmsg.thrift.lock"
SUFFIX: Final = ".thrift"


def generate(services: Sequence[ServiceShapes], lock: Lock) -> str:
    """Return one ``.thrift`` file, see `kitmsg_gateways.thrift.generate.generate`.

    Raises:
        ValueError: The services have no form in Thrift, or have changed too much.
    """
    from kitmsg_gateways.thrift.generate import generate as file

    return file(services, lock)
