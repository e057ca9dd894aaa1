"""Answers that a fleet keeps: which calls with an idempotency key ran, and how they ended.

A record in a key-value bucket goes from *running* to *answer*, *error* or *lost*, by compare
and set.  Whoever creates it runs the call, and writes it again while that lasts, so that
others see a crash: a record that runs and was not written for a whole lease.  Results and
errors are MessagePack, by the types that the endpoint declares.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import MSGPACK, response_decoder
from kitmsg.errors import Code, KitError, NotFound, code_of, error_for
from kitmsg.jetstream import Bucket
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.schema import error_codec
from kitmsg.schema.results import result_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.bus import Bus
    from kitmsg.jetstream import Entry, KeyValue

__all__ = ["ANSWERS", "Coders", "Held", "Record", "answers_of", "settled"]

ANSWERS: Final = "kit-answers"
"""Bucket that answers are kept in."""

_LOOK: Final = 0.01  # seconds between two looks whether a run has ended, at first
_MOST_LOOK: Final = 0.25

_DEFINITE: Final = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.FAILED_PRECONDITION,
        Code.ABORTED,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    }
)


def answers_of(bus: Bus) -> Callable[[], Awaitable[KeyValue]]:
    """Return a function that opens the bucket of answers behind `bus`."""
    store = jetstream_of(bus)
    return lambda: store.key_value(ANSWERS, Bucket())


class Record(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One call with its key.

    Attributes:
        state: ``running``, ``answer``, ``error``, or ``lost``: nobody knows how it ended.
        body: Digest of the request.
        lease: Seconds from its last write after which a running one has crashed.
        data: The result, or the fields of a declared error.
        error: Class of a declared error; "" for a plain one.
        code: Code of the error.
        text: Its message.
    """

    state: str = "running"
    body: bytes = b""
    lease: float = 0.0
    data: bytes = b""
    error: str = ""
    code: str = ""
    text: str = ""

    @classmethod
    def of(cls, entry: Entry) -> Record:
        """Return the record in an entry; a lost one where that cannot be read."""
        try:
            return msgspec.msgpack.decode(entry.value, type=cls)
        except msgspec.MsgspecError:
            return cls(state="lost")


class Coders:
    """Results and errors of one endpoint, to records and back.

    Args:
        result: Type of the result.
        raises: Exception classes that the endpoint declares.

    Raises:
        TypeError: One of them has no form on the wire.
    """

    def __init__(self, result: Any, raises: Sequence[type[Exception]]) -> None:
        self._encode = result_encoder(MSGPACK, result)
        self._decode = response_decoder(MSGPACK, result)
        self._errors: dict[str, tuple[type[Exception], Any, Any]] = {
            one.__name__: (one, *error_codec(one, MSGPACK)) for one in raises
        }

    def answer(self, running: Record, result: Any) -> Record:
        """Return the record of a call that returned."""
        return msgspec.structs.replace(
            running, state="answer", data=self._encode(result)
        )

    def error(self, running: Record, error: Exception) -> Record | None:
        """Return the record of a call that raised; None if that says no definite end."""
        known = self._errors.get(type(error).__name__)
        if known is not None and type(error) is known[0]:
            name, data = type(error).__name__, known[1](error)
            return msgspec.structs.replace(
                running, state="error", error=name, data=data
            )
        if isinstance(error, KitError) and code_of(error) in _DEFINITE:
            return msgspec.structs.replace(
                running, state="error", code=code_of(error).value, text=str(error)
            )
        return None

    def replay(self, record: Record) -> Any:
        """Return the result in a record of a call that ended, or raise its error.

        Raises:
            DataLoss: The error's fields do not fit any more.
        """
        if record.state == "answer":
            return self._decode(record.data)
        known = self._errors.get(record.error)
        if known is not None:
            raise known[2](record.data)
        raise error_for(Code(record.code or Code.UNKNOWN), record.text)


class Held:
    """The record of a call that runs here, kept alive while it does.

    Args:
        bucket: Where it is.
        key: Its key.
        record: As it was written.
        revision: The revision of that.
        window: Seconds that it stays.
    """

    # Invariant: `_revision` is that of our last write; `_lock` is held while one is under
    # way.  `_timer` is set until the call ends.

    def __init__(
        self, bucket: KeyValue, key: str, record: Record, revision: int, window: float
    ) -> None:
        self.record = record
        self._bucket = bucket
        self._key = key
        self._revision = revision
        self._window = window
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._later()

    async def end(self, record: Record | None) -> None:
        """Write how it ended; with None forget it: it never began.

        Raises:
            KitError: It could not be written, or is another's by now.
        """
        self._timer.cancel()
        async with self._lock:
            if record is None:
                await self._bucket.delete(self._key, self._revision)
            else:
                await self._write(record)

    def _later(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self.record.lease / 3, self._renew)

    def _renew(self) -> None:
        self._timer = self._later()
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._renewal(self._timer))

    async def _renewal(self, timer: asyncio.TimerHandle) -> None:
        async with self._lock:
            if not timer.cancelled():  # by the end, which waited for nobody
                with contextlib.suppress(KitError):
                    await self._write(self.record)

    async def _write(self, record: Record) -> None:
        self._revision = await self._bucket.update(
            self._key, msgspec.msgpack.encode(record), self._revision, ttl=self._window
        )


async def settled(bucket: KeyValue, key: str) -> tuple[Record, int] | None:
    """Wait until a record does not run any more, or has crashed.

    Returns:
        The record and its revision, one that still says *running* if it has crashed; None
        if it is gone.
    """
    # It looks, and does not watch: a consumer on the server for each call that waits would
    # cost more, and who may make one can have messages sent to anybody.
    clock, wait = asyncio.get_running_loop().time, _LOOK
    seen, crashed = 0, 0.0
    while True:
        try:
            entry = await bucket.get(key)
        except NotFound:
            return None
        record = Record.of(entry)
        if record.state != "running":
            return record, entry.revision
        if entry.revision != seen:
            seen = entry.revision
            crashed = clock() + entry.created + record.lease - await bucket.now()
        left = crashed - clock()
        if left <= 0:
            return record, entry.revision
        await asyncio.sleep(min(wait, left))
        wait = min(2 * wait, _MOST_LOOK)
