"""TLS, and mutual TLS: a context from PEM files, read again when they change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from kitmsg_gateways.thrift.options import GatewayOptions

__all__ = ["server_context"]

_log = logging.getLogger("kitmsg_gateways.thrift")


def server_context(options: GatewayOptions) -> ssl.SSLContext | None:
    """Return what a server proves itself with; None for no TLS.

    The files are looked at in each handshake, so that a renewed certificate is used
    without a restart; what cannot be read then is logged, and the former goes on.

    Raises:
        FailedPrecondition: A file cannot be read.
    """
    if not options.tls_cert:
        return None
    return _Files(options).context


class _Files:
    """The files, when they were last seen to change, and what was in them."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        names = (options.tls_cert, options.tls_key, options.tls_client_ca)
        self._files = [Path(name) for name in names if name]
        self._seen: tuple[object, ...] = ()
        self._newest = self.context = self._read()
        self.context.sni_callback = self._hand_over

    def _read(self) -> ssl.SSLContext:
        options = self._options
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._seen = self._state()
            context.load_cert_chain(options.tls_cert, options.tls_key, _no_password)
            if options.tls_client_ca:
                context.load_verify_locations(options.tls_client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as exc:
            files = ", ".join(map(str, self._files))
            raise FailedPrecondition(f"cannot use {files} for TLS: {exc}") from exc
        return context

    def _hand_over(self, connection: Any, *_: Any) -> None:
        # Called in each handshake, also when the client names no server.
        try:
            if self._state() != self._seen:
                self._newest = self._read()
        except (FailedPrecondition, OSError) as exc:
            _log.warning("the TLS files cannot be read again: %s", exc)
        connection.context = self._newest

    def _state(self) -> tuple[object, ...]:
        found = (file.stat() for file in self._files)
        return tuple((state.st_mtime_ns, state.st_ino) for state in found)


def _no_password() -> NoReturn:
    raise ValueError("the private key is protected by a password; give one that is not")
