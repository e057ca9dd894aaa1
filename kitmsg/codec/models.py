"""pydantic models on the wire: validated on the way in, serialized on the way out.

    read_model     a request at a service         validation mode
    write_model    a result at a service          serialization mode
    send_model     a request at a caller          the form that validation takes
    load_model     a result at a caller           from the form that serialization gives

The two forms of a model are the same unless it has excluded, computed, custom-serialized
fields or two aliases for one.  pydantic is not imported here; whoever has a model has it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from kitmsg.codec.faults import FieldError, as_step, join

__all__ = [
    "differs",
    "is_pydantic",
    "load_model",
    "read_model",
    "schema_generator",
    "send_model",
    "write_model",
    "write_model_strictly",
]

_MISSING: Final = object()
_CONTAINERS: Final = (list, set, frozenset, tuple, dict)


def is_pydantic(type_: Any) -> bool:
    """Tell whether `type_` is a pydantic model; does not import pydantic."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and isinstance(type_, type)
        and issubclass(type_, pydantic.BaseModel)
    )


@functools.cache
def schema_generator() -> Any:
    """Return the generator of pydantic's JSON Schemas, with decimals in one form: text."""
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            return {"type": "string", "format": "decimal"}

    return Generator


@functools.cache
def differs(model: Any) -> bool:
    """Tell whether a model is read otherwise than it is written, it or one inside."""
    make = functools.partial(
        model.model_json_schema, schema_generator=schema_generator()
    )
    excluded = any(field.exclude for field in model.model_fields.values())
    differ: bool = make(mode="validation") != make(mode="serialization")
    return excluded or differ


def write_model(value: Any) -> Any:
    """Return what pydantic serializes of a model, as plain values.

    Raises:
        TypeError: It is no model.
    """
    if is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True, warnings="none")
    raise TypeError(f"an object of type {_type_name(value)} has no wire form")


def write_model_strictly(value: Any) -> Any:
    """Return what `write_model` does, but raise `ValueError` for a field that misfits."""
    if is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True, warnings="error")
    return write_model(value)


def read_model(type_: Any, value: Any) -> Any:
    """Return `value`, the plain form of a pydantic model, as a `type_`.

    The model sees JSON, in strict mode: text is a date where a date is wanted, but
    never an int.
    """
    if not is_pydantic(type_):
        raise TypeError(f"{type_} has no wire form")
    try:
        return type_.model_validate_json(msgspec.json.encode(value), strict=True)
    except sys.modules["pydantic"].ValidationError as error:
        raise _problem(error) from None


def send_model(value: Any) -> Any:
    """Return the form of a model that its own validation takes, as plain values."""
    model: Any = type(value)
    if not is_pydantic(model) or not differs(model):
        return write_model(value)
    fields = model.model_fields
    sent = {
        _key_in(name, field): _plain(getattr(value, name))
        for name, field in fields.items()
        if hasattr(value, name)
    }
    return {**sent, **_plain(value.model_extra or {})}


def _plain(value: Any) -> Any:
    if is_pydantic(type(value)):
        return send_model(value)
    if isinstance(value, Mapping):
        return {_jsonable(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return _jsonable(value)


def _jsonable(value: Any) -> Any:
    return sys.modules["pydantic_core"].to_jsonable_python(value)


def load_model(type_: Any, value: Any) -> Any:
    """Return a model of the form that it was serialized to.

    An excluded field has its default, or is not set; a computed one is computed.  A field
    with a serializer of its own is read by its type where that takes it, and else is the
    value that came.
    """
    if not is_pydantic(type_) or not differs(type_) or not isinstance(value, Mapping):
        return read_model(type_, value)
    found: dict[str, Any] = {}
    known = {_key_out(name, field) for name, field in type_.model_fields.items()}
    for name, field in type_.model_fields.items():
        key = _key_out(name, field)
        read = _field(type_, name, field, key, value)
        if read is not _MISSING:
            found[name] = read
    if type_.model_config.get("extra") == "allow":
        known |= set(type_.model_computed_fields)
        found |= {key: item for key, item in value.items() if key not in known}
    return type_.model_construct(_fields_set={*found}, **found)


def _field(model: Any, name: str, field: Any, key: str, values: Any) -> Any:
    if key not in values:
        if field.is_required() and not field.exclude:
            raise FieldError(as_step(key), "is missing")
        return _MISSING
    try:
        return _load(_annotation(field), values[key])
    except FieldError as error:
        if _has_serializer(model, name, field):
            return values[key]
        raise FieldError(join(as_step(key), error.field), error.problem) from None


def _annotation(field: Any) -> Any:
    annotation = field.annotation
    if field.metadata and not _models_in(annotation):
        return Annotated[(annotation, *field.metadata)]
    return annotation


def _load(annotation: Any, value: Any) -> Any:
    """Return a value of any type that may hold models with two forms."""
    if is_pydantic(annotation):
        return load_model(annotation, value)
    if value is None or not _models_in(annotation):
        return _validated(annotation, value)
    if hasattr(annotation, "__metadata__"):
        return _load(get_args(annotation)[0], value)
    if get_origin(annotation) in _CONTAINERS:
        return _contained(get_origin(annotation), get_args(annotation), value)
    return _first(get_args(annotation), value)


def _contained(kind: Any, args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, Mapping if kind is dict else list):
        raise FieldError("", f"expected {kind.__name__}")
    if kind is dict:
        keys = ((_validated(args[0], key), key) for key in value)
        return {made: _at(key, args[1], value[key]) for made, key in keys}
    if kind is tuple:
        kinds = [args[0]] * len(value) if args[-1] is ... else args
        return tuple(_load(*pair) for pair in zip(kinds, value, strict=False))
    return kind(_each(args[0], value))


def _each(annotation: Any, values: Any) -> list[Any]:
    return [_at(f"[{at}]", annotation, value) for at, value in enumerate(values)]


def _at(place: Any, annotation: Any, value: Any) -> Any:
    try:
        return _load(annotation, value)
    except FieldError as error:
        raise FieldError(join(str(place), error.field), error.problem) from None


def _first(options: tuple[Any, ...], value: Any) -> Any:
    """Return `value` as the first of a union's members that takes all of it."""
    problem = FieldError("", "fits none of its types")
    for option in sorted(options, key=lambda each: not _knows(each, value)):
        try:
            return _load(option, value)
        except FieldError as error:
            problem = error
    raise problem


def _knows(option: Any, value: Any) -> bool:
    if not is_pydantic(option) or not isinstance(value, Mapping):
        return False
    fields = option.model_fields.items()
    keys = {_key_out(name, field) for name, field in fields if not field.exclude}
    return keys | set(option.model_computed_fields) == set(value)


def _models_in(annotation: Any) -> bool:
    if is_pydantic(annotation):
        return differs(annotation)
    return any(_models_in(each) for each in get_args(annotation))


def _validated(annotation: Any, value: Any) -> Any:
    pydantic = sys.modules["pydantic"]
    adapter = _adapter(annotation)
    try:
        return adapter.validate_json(msgspec.json.encode(value), strict=True)
    except pydantic.ValidationError as error:
        raise _problem(error) from None


def _adapter(annotation: Any) -> Any:
    try:
        return _cached_adapter(annotation)
    except TypeError:  # metadata that cannot be hashed
        return sys.modules["pydantic"].TypeAdapter(annotation)


@functools.lru_cache(maxsize=1024)
def _cached_adapter(annotation: Any) -> Any:
    return sys.modules["pydantic"].TypeAdapter(annotation)


def _has_serializer(model: Any, name: str, field: Any) -> bool:
    decorators = model.__pydantic_decorators__.field_serializers.values()
    own = any(
        name in each.info.fields or "*" in each.info.fields for each in decorators
    )
    return own or any("Serializer" in type(each).__name__ for each in field.metadata)


def _key_in(name: str, field: Any) -> str:
    alias = field.validation_alias or field.alias
    if alias is None or isinstance(alias, str):
        return alias or name
    choices = getattr(alias, "choices", [alias])  # AliasChoices, AliasPath
    return next((each for each in choices if isinstance(each, str)), name)


def _key_out(name: str, field: Any) -> str:
    return field.serialization_alias or field.alias or name


def _problem(error: Any) -> FieldError:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ""
    for at in first["loc"]:
        path = join(path, f"[{at}]" if isinstance(at, int) else as_step(str(at)))
    if first["type"] == "missing":
        return FieldError(path, "is missing")
    if first["type"] == "extra_forbidden":
        return FieldError(path, "is not known")
    message = str(first["msg"])
    return FieldError(path, message[:1].lower() + message[1:])


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix(
        "builtins."
    )
