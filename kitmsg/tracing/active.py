"""OpenTelemetry's current context, without the two calls in Python around its variable.

`current` and `attach` are those of `opentelemetry.context`.  By default the context stands
in a context variable, and they are its `get` and `set`: a third of the time.  A runtime
context that ``OTEL_PYTHON_CONTEXT`` names is used as it is.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

__all__ = ["attach", "current"]


def _variable() -> ContextVar[Any] | None:
    """Return the variable that the context stands in; None where it does not."""
    runtime = getattr(otel_context, "_RUNTIME_CONTEXT", None)
    if type(runtime) is not ContextVarsRuntimeContext:
        return None
    found = getattr(runtime, "_current_context", None)
    return found if isinstance(found, ContextVar) else None


_found: Final = _variable()

current: Callable[[], Context] = (
    otel_context.get_current if _found is None else _found.get
)
attach: Callable[[Context], Any] = otel_context.attach if _found is None else _found.set
