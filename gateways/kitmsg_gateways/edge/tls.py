"""TLS, and mutual TLS, with certificates that change while connections live.

The context that the sockets know never changes; each handshake is handed the context that
was read last.  So a new certificate serves new connections, and no old one is dropped.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NoReturn

from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg_gateways.edge.options import TlsOptions

__all__ = ["Tls"]


class Tls:
    """The gateway's side of TLS.

    Args:
        options: Which files.
        protocols: The protocols that clients are offered (ALPN).
        is_optional: Whether a client may come without a certificate.

    Attributes:
        context: For the sockets.

    Raises:
        InvalidArgument: A file cannot be read or does not hold what it should.
    """

    def __init__(
        self,
        options: TlsOptions,
        protocols: Sequence[str] = (),
        *,
        is_optional: bool = False,
    ) -> None:
        self._options = options
        self._protocols = list(protocols)
        self._mode = ssl.CERT_OPTIONAL if is_optional else ssl.CERT_REQUIRED
        self._newest = self.context = self._read()
        self.context.sni_callback = self._hand_over

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read."""
        named = (self._options.tls_cert, self._options.tls_key)
        return tuple(filter(None, (*named, self._options.tls_client_ca)))

    def reload(self) -> None:
        """Read the files again; what was read before stays when they cannot be.

        Raises:
            InvalidArgument: As when it was made.
        """
        self._newest = self._read()

    def _hand_over(self, connection: Any, *_: Any) -> None:
        # Called in each handshake, also when the client names no server.
        connection.context = self._newest

    def _read(self) -> ssl.SSLContext:
        options = self._options
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        try:
            context.load_cert_chain(
                options.tls_cert, options.tls_key or None, _no_password
            )
        except (OSError, ValueError) as exc:
            files = " and ".join(filter(None, (options.tls_cert, options.tls_key)))
            raise InvalidArgument(
                f"cannot use the certificate in {files}: {_why(exc)}"
            ) from exc
        if options.tls_client_ca:
            self._ask_clients(context)
        return context

    def _ask_clients(self, context: ssl.SSLContext) -> None:
        authorities = self._options.tls_client_ca
        try:
            context.load_verify_locations(authorities)
        except OSError as exc:
            raise InvalidArgument(
                f"cannot use the authorities in {authorities}: {_why(exc)}"
            ) from exc
        context.verify_mode = self._mode
        # A session taken up again would skip the check of the client's certificate,
        # which may not be trusted any more.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0


def _why(error: Exception) -> str:
    """Return what is wrong with a file; OpenSSL's own words help nobody."""
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "certificate and key belong to different pairs"
        return "they are not what is wanted, in PEM"
    strerror = getattr(error, "strerror", None)
    return strerror.lower() if isinstance(strerror, str) else str(error)


def _no_password() -> NoReturn:
    # Without this OpenSSL would ask the terminal and wait.
    raise ValueError("the key is encrypted; give one that is not, readable by us only")
