"""Server reflection, v1 and v1alpha: what is served now, for grpcurl and its like.

grpcio-reflection has v1alpha alone; v1 has the same messages under another name, so it is
the same servicer with a renamed descriptor.  Source: grpc/doc/server-reflection.md.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from kitmsg_gateways.grpc.methods import Guarded, Handler

__all__ = ["SERVICES", "Reflection", "make_pool", "well_known"]

_log = logging.getLogger("kitmsg_gateways.grpc")

SERVICES: Final = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
_METHOD: Final = "ServerReflectionInfo"


class Reflection:
    """Answers reflection requests.

    Args:
        services: Full names of services that are always there.
        files: Their descriptors, but for those of gRPC's own.
    """

    def __init__(
        self, services: Iterable[str], files: Iterable[FileDescriptorProto] = ()
    ) -> None:
        self._always = (*services, *SERVICES)
        self._own = [
            *well_known(),
            _file(any_pb2),
            _file(duration_pb2),
            _file(status_pb2),  # of the details of errors
            _file(error_details_pb2),
            _file(health_pb2),
            _file(reflection_pb2),
            _v1(),
            *files,
        ]
        self._pool = DescriptorPool()
        self._servicer: Any = None
        self.show((), ())

    def show(
        self, services: Iterable[str], files: Iterable[FileDescriptorProto]
    ) -> None:
        """Tell of these services from now on; questions asked later see them."""
        pool = make_pool(self._own)
        for file in files:
            try:
                add_file(pool, file)
            except TypeError as exc:  # it is served all the same
                _log.warning("reflection cannot show %s: %s", file.name, exc)
        self._pool = pool
        self._servicer = aio.ReflectionServicer((*services, *self._always), pool)

    def handlers(self, guarded: Guarded) -> dict[str, Handler]:
        """Return what gRPC calls, by path; see `Calls.guarded`."""
        read = reflection_pb2.ServerReflectionRequest.FromString
        write = reflection_pb2.ServerReflectionResponse.SerializeToString
        make = grpc.stream_stream_rpc_method_handler
        paths = [f"/{service}/{_METHOD}" for service in SERVICES]
        return {path: make(guarded(path, self.answer), read, write) for path in paths}

    async def answer(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Answer each question out of what is served when it is asked."""
        async for request in requests:
            question = self._answerable(request)
            async for response in self._servicer.ServerReflectionInfo(
                _one(question), context
            ):
                response.original_request.CopyFrom(request)
                await context.write(response)

    def _answerable(self, request: Any) -> Any:
        """Return a question that the pool can answer: it finds services, not methods."""
        service, _, method = request.file_containing_symbol.rpartition(".")
        try:
            known = self._pool.FindServiceByName(service).methods_by_name
        except KeyError:
            return request
        if method not in known:
            return request
        return reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)


def well_known() -> list[FileDescriptorProto]:
    """Return the descriptors of values of any type."""
    return [_file(struct_pb2)]


def make_pool(files: Iterable[FileDescriptorProto]) -> DescriptorPool:
    """Return a pool with `files`, each after those it imports; doubles are left out."""
    pool = DescriptorPool()
    for file in files:
        add_file(pool, file)
    return pool


def add_file(pool: DescriptorPool, file: FileDescriptorProto) -> None:
    """Put a file into a pool, unless one of its name is there.

    Raises:
        TypeError: It does not fit what is there.
    """
    try:
        pool.FindFileByName(file.name)
    except KeyError:
        pool.Add(file)


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request


def _file(module: Any) -> FileDescriptorProto:
    found = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(found)
    return found


def _v1() -> FileDescriptorProto:
    """Return the descriptor of v1, which is v1alpha's under another name."""
    data = _file(reflection_pb2).SerializeToString()
    file = descriptor_pb2.FileDescriptorProto.FromString(data)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            if not field.type_name:
                continue
            field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    return file
