"""Type variables in annotations, as subclasses of generic classes bind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["bound_to", "open_in"]


def bound_to(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """Return `annotation` with type variables replaced by what they stand for."""
    if isinstance(annotation, TypeVar):
        return variables.get(annotation, annotation)
    parameters = _parameters(annotation)
    if not any(parameter in variables for parameter in parameters):
        return annotation
    return annotation[tuple(variables.get(each, each) for each in parameters)]


def open_in(annotation: Any) -> list[Any]:
    """Return the type variables that stand in `annotation`."""
    if isinstance(annotation, TypeVar):
        return [annotation]
    return list(_parameters(annotation))


def _parameters(annotation: Any) -> tuple[Any, ...]:
    # A generic class without brackets has parameters too; they stand for anything.
    if isinstance(annotation, type) and not get_args(annotation):
        return ()
    return tuple(getattr(annotation, "__parameters__", ()))
