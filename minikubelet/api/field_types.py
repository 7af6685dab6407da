"""What the fields of the API types hold, read from the types' hints."""

from __future__ import annotations

import types as python_types
import typing
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, TypeGuard, Union

import msgspec


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field holds: `base` is a scalar type, list, dict, a struct, or None where anything goes.

    `kind` tells texts and numbers with rules of their own apart: quantity, time, base64, int32, int-or-string.
    """

    base: Any
    kind: str = ""
    optional: bool = False
    item: FieldType | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an API type."""

    attribute: str
    type: FieldType
    required: bool


@cache
def struct_fields(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """Return an API type's fields by their wire names."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        one.encode_name: Field(one.name, field_type(hints[one.name]), one.required)
        for one in msgspec.structs.fields(kind)
    }


def field_type(hint: Any) -> FieldType:
    """Return what a type hint of `api.types` stands for."""
    origin = typing.get_origin(hint)
    if origin in (Union, python_types.UnionType):
        options = [one for one in typing.get_args(hint) if one is not type(None)]
        optional = len(options) < len(typing.get_args(hint))
        if len(options) > 1:
            return FieldType(int, "int-or-string", optional)
        return replace(field_type(options[0]), optional=optional)
    if origin is Annotated:
        base, meta = typing.get_args(hint)
        return FieldType(base, meta.extra["kind"])
    if origin is list:
        return FieldType(list, item=field_type(typing.get_args(hint)[0]))
    if origin is dict:
        return FieldType(dict, item=field_type(typing.get_args(hint)[1]))
    return FieldType(None if hint is Any else hint, optional=hint is Any)


def is_struct(base: Any) -> TypeGuard[type[msgspec.Struct]]:
    """Tell whether a field's type is an object with fields."""
    return isinstance(base, type) and issubclass(base, msgspec.Struct)
