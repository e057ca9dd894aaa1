"""The port and TLS of gRPC's core, which opens its own sockets and tells no reason."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.edge.listener import bind
from kitmsg_gateways.edge.tls import Tls

if TYPE_CHECKING:
    from kitmsg_gateways.edge.options import TlsOptions
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["GrpcTls", "check_free", "listen"]


class GrpcTls(Tls):
    """The gateway's side of TLS; the core does the handshakes, with what it is given here.

    Args:
        options: Which files.

    Raises:
        InvalidArgument: A file cannot be read or does not hold what it should.
    """

    def __init__(self, options: TlsOptions) -> None:
        super().__init__(options)
        # Read last, and not handed over yet; None when the core has it.
        self._fresh: grpc.ServerCertificateConfiguration | None = self._configuration()

    def reload(self) -> None:
        """Read the files again; what was read before stays when they cannot be.

        Raises:
            InvalidArgument: As when it was made.
        """
        super().reload()  # which looks closer than the core
        self._fresh = self._configuration()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server proves itself with."""
        return grpc.dynamic_ssl_server_credentials(
            self._take(), self._take, bool(self._options.tls_client_ca)
        )

    def _take(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what was read since the last time; None to go on as before.

        Called for each new connection, by threads of the core.
        """
        fresh, self._fresh = self._fresh, None
        return fresh

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        options = self._options
        try:
            cert = Path(options.tls_cert).read_bytes()
            key = Path(options.tls_key).read_bytes() if options.tls_key else cert
            authorities = options.tls_client_ca
            roots = Path(authorities).read_bytes() if authorities else None
        except OSError as exc:  # it was there a moment ago
            raise InvalidArgument(
                f"cannot read {exc.filename}: {exc.strerror}"
            ) from exc
        return grpc.ssl_server_certificate_configuration([(key, cert)], roots)


def listen(options: GatewayOptions) -> list[socket.socket]:
    """Return a socket that keeps the port for several processes.

    It is bound and does not listen: the system shares connections out among those that do.

    Raises:
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    if not options.reuse_port:  # calls would end at another program that shares it
        check_free(options)
    found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    family, kind, proto, _, where = found[0]
    sock = socket.socket(family, kind, proto)
    try:
        # And not SO_REUSEADDR, or others could have it: nobody listens yet.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return [sock]


def check_free(options: GatewayOptions) -> None:
    """Refuse an address that cannot be had.

    A name may stand for several: one of them is enough, if none is somebody else's.

    Raises:
        OSError: It cannot; ``errno.EADDRINUSE`` when it is taken.
    """
    for sock in bind(options.host, options.port, reuse_port=options.reuse_port):
        sock.close()
