"""Names of spans and attributes, and the codes that make a span an error.

OpenTelemetry Semantic Conventions 1.43.0, https://opentelemetry.io/docs/specs/semconv/:
"Semantic conventions for RPC spans" (``rpc.system.name``, ``rpc.method``,
``rpc.response.status_code``), "for HTTP spans", "for messaging spans" (``messaging.system``,
``messaging.destination.name``) and "Recording errors" (``error.type``).

A call on the bus is an RPC of the system ``kitmsg``; its span has the endpoint's dotted name.
"""

from __future__ import annotations

import traceback
from typing import Final

from kitmsg.errors import Code

__all__ = [
    "BATCH_COUNT",
    "CONSUMER_GROUP",
    "DESTINATION",
    "ERROR_TYPE",
    "FAULTS",
    "HTTP_STATUS",
    "MAILBOX",
    "MAILBOX_SECONDS",
    "MESSAGE_ID",
    "MESSAGING_SYSTEM",
    "OK",
    "OPERATION",
    "OPERATION_NAME",
    "RPC_STATUS",
    "SCHEMA_URL",
    "SCOPE",
    "TEMPLATE",
    "bus_attributes",
    "exception_attributes",
    "is_fault",
    "rpc_attributes",
    "status_name",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.43.0"
SCOPE: Final = "kitmsg"
"""Name of the instrumentation scope."""

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
HTTP_STATUS: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
MESSAGING_SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.name"
TEMPLATE: Final = "messaging.destination.template"
OPERATION: Final = "messaging.operation.type"
OPERATION_NAME: Final = "messaging.operation.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
CONSUMER_GROUP: Final = "messaging.consumer.group.name"
OK: Final = "OK"

MAILBOX: Final = "mailbox.wait"
"""Event of a turn: it left the mailbox."""

MAILBOX_SECONDS: Final = "kitmsg.mailbox.wait_seconds"


FAULTS: Final = frozenset(
    {
        *(Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED),
        *(Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS),
    }
)
"""Codes of errors that are no answer, so that their spans are errors.

As the conventions for gRPC have it for servers, and a refusal for lack of room.
"""


def is_fault(code: Code, *, is_business: bool, all_errors: bool) -> bool:
    """Tell whether an error makes its span an error.

    Args:
        code: Of the error.
        is_business: Whether the endpoint declares it.
        all_errors: Whether business errors count too.
    """
    return all_errors or (code in FAULTS and not is_business)


def exception_attributes(error: BaseException) -> dict[str, str]:
    """Return the attributes of an event that tells of an exception nobody expected."""
    return {
        "exception.type": type(error).__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
    }


def status_name(code: Code | None) -> str:
    """Return the status of a call: ``OK``, or a code in gRPC's spelling."""
    return OK if code is None else code.name


def rpc_attributes(system: str, method: str) -> dict[str, str]:
    """Return the attributes of calls of one method."""
    return {RPC_SYSTEM: system, RPC_METHOD: method}


def bus_attributes(name: str, subject: str) -> dict[str, str]:
    """Return the attributes of calls of one endpoint on the bus."""
    return {
        **rpc_attributes("kitmsg", name),
        MESSAGING_SYSTEM: "nats",
        DESTINATION: subject,
    }
