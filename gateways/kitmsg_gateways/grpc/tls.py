"""TLS and mTLS: credentials from PEM files, read again when they change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["credentials"]

_log = logging.getLogger("kitmsg_gateways.grpc")


def credentials(options: GatewayOptions) -> grpc.ServerCredentials | None:
    """Return what a server proves itself with; None for no TLS.

    The files are looked at for each new connection, so that a renewed certificate is used
    without a restart; what cannot be read then is logged, and the former goes on.

    Raises:
        FailedPrecondition: A file cannot be read.
    """
    if not options.tls_cert:
        return None
    files = _Files(options)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.renewed,
        bool(options.tls_client_ca),
    )


class _Files:
    """The files, and when they were last seen to change."""

    def __init__(self, options: GatewayOptions) -> None:
        self._cert = Path(options.tls_cert)
        self._key = Path(options.tls_key or options.tls_cert)
        self._ca = Path(options.tls_client_ca) if options.tls_client_ca else None
        self._seen: tuple[object, ...] = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Return what is in the files.

        Raises:
            FailedPrecondition: One cannot be read.
        """
        try:
            self._seen = self._state()
            pair = (self._key.read_bytes(), self._cert.read_bytes())
            roots = self._ca.read_bytes() if self._ca else None
        except OSError as exc:
            raise FailedPrecondition(
                f"cannot read {exc.filename} for TLS: {exc.strerror}"
            ) from exc
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is in the files if they changed; None to go on as before.

        Called by gRPC from threads of its own.
        """
        try:
            return None if self._state() == self._seen else self.read()
        except (FailedPrecondition, OSError) as exc:
            _log.warning("the TLS files cannot be read again: %s", exc)
            return None

    def _state(self) -> tuple[object, ...]:
        files = [self._cert, self._key, *([self._ca] if self._ca else [])]
        return tuple((s.st_mtime_ns, s.st_ino) for s in (f.stat() for f in files))
