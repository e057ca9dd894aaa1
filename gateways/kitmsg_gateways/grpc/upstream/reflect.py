"""Fetches the descriptors of a server: server reflection, v1, else v1alpha."""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

from kitmsg.errors import FailedPrecondition
from kitmsg_gateways.grpc.load import Protos
from kitmsg_gateways.grpc.reflection import SERVICES

__all__ = ["reflect"]

_OWN: Final = ("grpc.reflection.", "grpc.health.")
_MOST_FILES: Final = 1000
_TRIES: Final = 3
_UNSENT: Final = 'Failed "execute_batch"'


async def reflect(channel: Any, timeout: float) -> Protos:
    """Return the services of a server, without those that every server has.

    Args:
        channel: To it.
        timeout: Seconds it may take.

    Raises:
        FailedPrecondition: It has no reflection, or what it says does not fit together.
        grpc.aio.AioRpcError: It failed.
    """
    for service in SERVICES:
        try:
            return await _asked(channel, service, timeout)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    raise FailedPrecondition(
        "the server has no reflection; say what it offers with --proto FILE"
    )


async def _asked(channel: Any, service: str, timeout: float) -> Protos:
    """Do as `_ask`; again where the call was over before our message left.

    Then grpcio tells of the batch that it could not send, not of the server's status.
    """
    for _ in range(_TRIES - 1):
        try:
            return await _ask(channel, service, timeout)
        except grpc.aio.AioRpcError as exc:
            if _UNSENT not in (exc.debug_error_string() or ""):
                raise
    return await _ask(channel, service, timeout)


async def _ask(channel: Any, service: str, timeout: float) -> Protos:
    call = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=timeout)
    try:
        return await _Asker(call).protos()
    finally:
        call.cancel()


class _Asker:
    """Collects the files of every service."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._files: dict[str, FileDescriptorProto] = {}

    async def protos(self) -> Protos:
        listed = await self._answer(list_services="")
        names = [
            each.name
            for each in listed.list_services_response.service
            if not each.name.startswith(_OWN)
        ]
        for name in names:
            await self._take(file_containing_symbol=name)
        while missing := self._missing():
            if len(self._files) > _MOST_FILES:
                raise FailedPrecondition("the server's files are too many")
            await self._take(file_by_filename=missing)
        database = DescriptorDatabase()
        try:
            for file in self._files.values():
                database.Add(file)
            pool = DescriptorPool(database)
            services = tuple(pool.FindServiceByName(name) for name in names)
        except (TypeError, KeyError) as exc:
            raise FailedPrecondition(
                f"what the server says of itself does not fit together: {exc}"
            ) from exc
        return Protos((), services)

    def _missing(self) -> str:
        """Return a file that is imported and not there; "" for none."""
        for file in self._files.values():
            for name in file.dependency:
                if name not in self._files:
                    return name
        return ""

    async def _take(self, **question: str) -> None:
        answer = await self._answer(**question)
        before = len(self._files)
        for data in answer.file_descriptor_response.file_descriptor_proto:
            try:
                file = FileDescriptorProto.FromString(data)
            except DecodeError as exc:
                raise FailedPrecondition(
                    "the server's descriptors cannot be read"
                ) from exc
            self._files.setdefault(file.name, file)
        if "file_by_filename" in question and len(self._files) == before:
            raise FailedPrecondition(
                f"the server does not tell of {question['file_by_filename']}"
            )

    async def _answer(self, **question: str) -> Any:
        await self._call.write(reflection_pb2.ServerReflectionRequest(**question))
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            await self._call.code()
            raise FailedPrecondition("the server ended its reflection early")
        return answer
