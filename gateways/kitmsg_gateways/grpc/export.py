"""``kitmsg export proto``: an exporter, see `kitmsg.worker.plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes

__all__ = ["LOCK", "SUFFIX", "TITLE", "generate"]

TITLE: Final = "protobuf"
LOCK: Final = "kitmsg.proto.lock"
SUFFIX: Final = ".proto"


def generate(services: Sequence[ServiceShapes], lock: Lock) -> Mapping[str, str]:
    """Return ``.proto`` files by name, see `kitmsg_gateways.grpc.generate.generate`.

    Raises:
        ValueError: The services have no form in protobuf, or have changed too much.
        FailedPrecondition: protobuf is not installed.
    """
    try:
        from kitmsg_gateways.grpc.generate import generate as files
    except ImportError as exc:
        raise FailedPrecondition(
            f"protobuf needs {exc.name}: pip install 'kitmsg[grpc]'"
        ) from exc
    return files(services, lock)
