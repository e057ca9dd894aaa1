"""``.proto`` files of the user's own: compiled, and loaded as descriptors.

A descriptor set that is compiled already (``.pb``, ``.binpb``, ``.desc``, ``.protoset``)
needs no compiler.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from kitmsg.errors import FailedPrecondition
from kitmsg_gateways.grpc.reflection import make_pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.descriptor import ServiceDescriptor

__all__ = ["Protos", "load"]

_COMPILED: Final = (".pb", ".binpb", ".desc", ".protoset")
_SECONDS: Final = 30
_COMPILER_LOG: Final = re.compile(r"^([EFIW]\d{4} |WARNING: ).*\n?", re.MULTILINE)
"""Lines that the compiler logs beside its errors."""


@dataclass(frozen=True, slots=True)
class Protos:
    """The descriptors in some files.

    Attributes:
        files: Their descriptors and those of what they import, imports first.
        services: The services that they define, without those of imports.
    """

    files: tuple[FileDescriptorProto, ...]
    services: tuple[ServiceDescriptor, ...]


def load(paths: Sequence[str], folders: Sequence[str] = ()) -> Protos:
    """Return the descriptors in ``.proto`` files or compiled descriptor sets.

    Args:
        paths: The files.
        folders: Where their imports are; the folder of each file is looked in anyway.

    Raises:
        FailedPrecondition: A file cannot be read or compiled, or there is no compiler; the
            message says where and why.
    """
    found: dict[str, FileDescriptorProto] = {}
    own: dict[str, None] = {}
    for path in paths:
        if not Path(path).is_file():
            raise FailedPrecondition(f"there is no file {path}")
        files = _read(path) if path.endswith(_COMPILED) else _compile(path, folders)
        if path.endswith(_COMPILED):
            own |= dict.fromkeys(file.name for file in files)
        else:
            own[files[-1].name] = None
        for file in files:
            found.setdefault(file.name, file)
    return _loaded(list(found.values()), own)


def _loaded(files: list[FileDescriptorProto], own: Iterable[str]) -> Protos:
    try:
        pool = make_pool(files)
        services = [
            service
            for name in own
            for service in pool.FindFileByName(name).services_by_name.values()
        ]
    except (TypeError, KeyError) as exc:
        raise FailedPrecondition(f"the descriptors do not fit together: {exc}") from exc
    return Protos(tuple(files), tuple(services))


def _read(path: str) -> list[FileDescriptorProto]:
    try:
        found = FileDescriptorSet.FromString(Path(path).read_bytes())
    except (OSError, DecodeError) as exc:
        raise FailedPrecondition(f"{path} is no descriptor set: {exc}") from exc
    return list(found.file)


def _compile(path: str, folders: Sequence[str]) -> list[FileDescriptorProto]:
    roots = [*folders, str(Path(path).parent)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.pb")
        command = [
            *_compiler(),
            *(f"-I{root}" for root in roots),
            f"--descriptor_set_out={out}",
            "--include_imports",
            "--include_source_info",
            path,
        ]
        try:
            ran = subprocess.run(  # noqa: S603  # our own compiler, the user's own file
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise FailedPrecondition(f"{path} cannot be compiled: {exc}") from exc
        if ran.returncode:
            said = _COMPILER_LOG.sub("", ran.stderr).strip()[:2000]
            raise FailedPrecondition(f"{path} cannot be compiled: {said}")
        return _read(str(out))


def _compiler() -> list[str]:
    """Return the command of protoc: grpcio-tools' own, else the one on PATH."""
    tools = find_spec("grpc_tools")
    if tools is not None and tools.submodule_search_locations:
        own = Path(tools.submodule_search_locations[0], "_proto")  # google/protobuf
        return [sys.executable, "-P", "-m", "grpc_tools.protoc", f"-I{own}"]
    there = shutil.which("protoc")
    if there is None:
        raise FailedPrecondition(
            "a .proto file needs a compiler: pip install 'kitmsg[grpc-tools]', or give a"
            " descriptor set (protoc --descriptor_set_out=api.pb --include_imports)"
        )
    return [there]
