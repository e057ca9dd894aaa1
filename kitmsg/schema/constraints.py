"""Constraints of other libraries as msgspec's: `annotated_types` and pydantic's ``Field``.

    Annotated[int, Gt(0)]                 ->  Annotated[int, Meta(gt=0)]
    Annotated[str, Field(max_length=9)]   ->  Annotated[str, Meta(max_length=9)]

msgspec ignores metadata that it does not know.  An endpoint enforces what its types say or
refuses to be defined: what has no translation is an error, never a constraint that holds
nobody back.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

import msgspec
import msgspec.inspect as mi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ignored_in", "translated"]

_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")
_HARMLESS: Final = frozenset({"Unit", "DocInfo", "SkipJsonSchema", "FailFast"})
_PROSE: Final = frozenset({"title", "description", "examples", "deprecated"})
_CURE: Final = "write msgspec.Meta(...), or check it in the method"


def translated(annotation: Any, what: str) -> Any:
    """Return `annotation` with the constraints of other libraries as `msgspec.Meta`.

    Args:
        annotation: A type, perhaps with ``Annotated`` in it.
        what: Begins the message, such as ``Greeter.hello: parameter 'x'``.

    Raises:
        TypeError: There is a constraint that cannot be enforced; it is named.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = translated(args[0], what)
        own = [each for each in args[1:] if not _is_foreign(each)]
        metas = [
            m for each in args[1:] if _is_foreign(each) for m in _metas(each, what)
        ]
        kept = Annotated[(inner, *own)] if own else inner
        return _constrained(kept, metas, what)
    if origin in (Union, types.UnionType):
        return Union[tuple(translated(arg, what) for arg in args)]  # noqa: UP007
    if not args or not _is_container(origin):
        return annotation
    return origin[tuple(arg if arg is ... else translated(arg, what) for arg in args)]


def ignored_in(annotation: Any) -> Any:
    """Return a constraint in `annotation` that msgspec would ignore; None for none."""
    if get_origin(annotation) is Annotated:
        for each in get_args(annotation)[1:]:
            if _is_foreign(each) and _says_more_than_prose(each):
                return each
    found = (ignored_in(arg) for arg in get_args(annotation))
    return next((each for each in found if each is not None), None)


def _is_container(origin: Any) -> bool:
    module = getattr(origin, "__module__", "")
    return origin in (list, set, frozenset, tuple, dict) or module == "collections.abc"


def _is_foreign(metadata: Any) -> bool:
    """Tell whether metadata is of a library whose constraints are known here."""
    modules = (cls.__module__.partition(".")[0] for cls in type(metadata).__mro__)
    return any(module in ("annotated_types", "pydantic") for module in modules)


def _says_more_than_prose(metadata: Any) -> bool:
    try:
        return any(set(_facts(each)) - {"extra"} for each in _flat(metadata))
    except TypeError:
        return True


def _metas(metadata: Any, what: str) -> list[msgspec.Meta]:
    try:
        facts: dict[str, Any] = {}
        for each in _flat(metadata):
            facts.update(_facts(each))
        extra = facts.pop("extra", None)
        return (
            [msgspec.Meta(**facts, extra_json_schema=extra)] if facts or extra else []
        )
    except TypeError as error:
        raise TypeError(f"{what} has {metadata!r}: {error}; {_CURE}") from None


def _flat(metadata: Any) -> Iterator[Any]:
    """Yield constraints one by one, without the groups that they come in."""
    name = type(metadata).__name__
    if name == "FieldInfo":
        _check_field(metadata)
        yield metadata
        for each in metadata.metadata:
            yield from _flat(each)
    elif hasattr(metadata, "__iter__"):
        for each in metadata:
            yield from _flat(each)
    else:
        yield metadata


def _check_field(field: Any) -> None:
    said = getattr(field, "_attributes_set", {})
    known = {*_PROSE, "annotation", "json_schema_extra", *_BOUNDS, "pattern", "strict"}
    for name in said:
        if name not in known:
            raise TypeError(f"{name} has no effect on an endpoint")


def _facts(constraint: Any) -> Mapping[str, Any]:
    """Return one constraint as arguments of `msgspec.Meta`.

    Raises:
        TypeError: It has no equal there.
    """
    name = type(constraint).__name__
    if name == "FieldInfo":
        return _prose(constraint)
    if name in ("Strict", *_HARMLESS):  # an endpoint is strict already
        return {}
    if name == "Timezone":
        if constraint.tz not in (None, ...):
            raise TypeError("only that there is a time zone, or none, can be checked")
        return {"tz": constraint.tz is not None}
    facts = getattr(constraint, "__dict__", {}) or {
        key: getattr(constraint, key)
        for key in getattr(constraint, "__dataclass_fields__", {})
    }
    facts = {key: value for key, value in facts.items() if value is not None}
    facts.pop("strict", None)
    unknown = [key for key in facts if key not in (*_BOUNDS, "pattern")]
    if unknown or not facts:
        raise TypeError(f"{unknown[0] if unknown else name} cannot be enforced")
    if "pattern" in facts and not isinstance(facts["pattern"], str):
        facts["pattern"] = facts["pattern"].pattern
    return facts


def _prose(field: Any) -> Mapping[str, Any]:
    given = {key: getattr(field, key, None) for key in _PROSE}
    extra = {key: value for key, value in given.items() if value is not None}
    if isinstance(field.json_schema_extra, dict):
        extra.update(field.json_schema_extra)
    return {"extra": extra} if extra else {}


def _constrained(annotation: Any, metas: list[msgspec.Meta], what: str) -> Any:
    """Return `annotation` with `metas`; of a union, on those members that they fit."""
    for meta in metas:
        if get_origin(annotation) in (Union, types.UnionType):
            annotation = _on_members(annotation, meta, what)
        else:
            annotation = Annotated[annotation, meta]
            _try(annotation, what)
    return annotation


def _on_members(annotation: Any, meta: msgspec.Meta, what: str) -> Any:
    members, problem = [], TypeError(f"{what}: {meta!r} fits none of its types")
    fits = False
    for member in get_args(annotation):
        try:
            mi.type_info(Annotated[member, meta])
        except TypeError:
            members.append(member)
        else:
            members.append(Annotated[member, meta])
            fits = True
    if not fits:
        raise problem
    return Union[tuple(members)]  # noqa: UP007


def _try(annotation: Any, what: str) -> None:
    try:
        mi.type_info(annotation)
    except TypeError as error:
        raise TypeError(f"{what}: {error}; {_CURE}") from None
