"""structlog's lines through the same formats, levels and redaction.

    log = structlog.get_logger("orders")
    log.info("placed", order_id="A1")     # like logging's, with the turn's ids

``kitmsg run`` and `kitmsg.run` see to it by `follow_structlog`; other programs call
`use_structlog`.  With a configuration of your own, `add_turn` among its processors adds
the facts of the turn.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import FailedPrecondition
from kitmsg.logs.turn import turn_facts

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["add_turn", "follow_structlog", "use_structlog"]

_NOT_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_ARGUMENTS: Final = {"exc_info", "stack_info"}


def add_turn(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the facts of the running turn to an event: a processor of structlog's."""
    del logger, method
    for name, fact in turn_facts().items():
        event.setdefault(name, fact)
    return event


def use_structlog() -> None:
    """Have structlog write through the standard library's loggers.

    Bound values and context variables are fields of the line, `exc_info` its error.

    Raises:
        FailedPrecondition: structlog is not installed.
    """
    try:
        import structlog
    except ImportError as exc:
        raise FailedPrecondition(
            "structlog is not installed: pip install structlog"
        ) from exc
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _renamed,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def follow_structlog() -> None:
    """Do as `use_structlog` where the program logs by structlog as it comes.

    One that was configured is left alone, and one that was not imported is not looked for.
    """
    structlog = sys.modules.get("structlog")
    if structlog is not None and not structlog.is_configured():
        use_structlog()


def _renamed(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add "_" to the keys that logging keeps for itself, such as ``name``."""
    del logger, method
    for key in _NOT_FIELDS.intersection(event) - _ARGUMENTS:
        event[f"{key}_"] = event.pop(key)
    return event
