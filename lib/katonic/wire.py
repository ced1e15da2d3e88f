"""Databags as typed values: how an interface's fields stand on Juju's wire."""

import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

Struct = TypeVar("Struct", bound=msgspec.Struct)
Bag = TypeVar("Bag", bound="Databag")


class WrongValueError(ValueError):
    """A value that its type does not allow; the message names key, value and what is allowed."""


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
class Config(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A charm's options, typed: `max_connections` is the option `max-connections`."""


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
class Secret(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The content of a Juju secret, all strings; fields that are None are left out."""


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
class Databag(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What one side of an interface publishes; fields that are None are left out.

    Attributes:
        wire: "raw" writes strings as they are and all else as JSON; "json" writes all as JSON.
        scope: Whose databag it is: the application's or the unit's.
    """

    wire: ClassVar[Literal["raw", "json"]] = "raw"
    scope: ClassVar[Literal["app", "unit"]] = "app"

    @classmethod
    def secrets(cls) -> dict[str, type[Secret]]:
        """Return the keys whose values travel as Juju secrets, each with the secret's type."""
        return _secrets(cls)

    @classmethod
    def required(cls) -> set[str]:
        """Return the keys without which there is no data yet."""
        return {it.encode_name for it in msgspec.structs.fields(cls) if it.required}


@functools.cache
def _secrets(cls: type[Databag]) -> dict[str, type[Secret]]:
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        union = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for part in union:
            if isinstance(part, type) and issubclass(part, Secret):
                found[_key(cls, name)] = part
    return found


def _key(cls: type[msgspec.Struct], name: str) -> str:
    return next(it.encode_name for it in msgspec.structs.fields(cls) if it.name == name)


def encode(bag: Databag) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the bag's open values as they stand on the wire, and the contents of its secrets."""
    values = {k: v for k, v in msgspec.to_builtins(bag).items() if v is not None}
    secrets = {key: present(values.pop(key)) for key in bag.secrets() if key in values}
    return {key: to_wire(bag, value) for key, value in values.items()}, secrets


def present(content: Mapping[str, str | None]) -> dict[str, str]:
    """Return a secret's content without the fields that are None."""
    return {key: value for key, value in content.items() if value is not None}


def to_wire(bag: Databag | type[Databag], value: Any) -> str:
    """Return one value as it stands in the databag."""
    return value if bag.wire == "raw" and isinstance(value, str) else json.dumps(value)


def decode(
    cls: type[Bag], raw: Mapping[str, str], open_secret: Callable[[str], Mapping[str, str]]
) -> Bag | None:
    """Return a databag's typed value, its secrets opened, or None while required keys lack.

    Raises:
        WrongValueError: A key's value is not what its type allows.
    """
    if not cls.required() <= raw.keys():
        return None
    text = {it.encode_name for it in msgspec.structs.fields(cls) if _is_text(it.type)}
    data: dict[str, Any] = {}
    for key, value in raw.items():
        if key in cls.secrets():
            data[key] = open_secret(value.strip('"'))
        elif cls.wire == "raw" and key in text:
            data[key] = value
        else:
            data[key] = _from_json(value)
    return parse(data, cls)


def _is_text(hint: Any) -> bool:
    return hint is str or str in typing.get_args(hint) or typing.get_origin(hint) is Literal


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def parse(data: Mapping[str, Any], cls: type[Struct]) -> Struct:
    """Return the mapping as a typed value.

    Raises:
        WrongValueError: A value is not allowed: "max-connections=0: expected `int` >= 1".
    """
    try:
        return msgspec.convert(data, cls, strict=False)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        path = place.rstrip("`").split(".")
        key = path[0].partition("[")[0]
        if not key:
            raise WrongValueError(reason) from None
        shown = "" if any(part in cls_secrets(cls) for part in path) else f"={data.get(key)}"
        reason = reason[0].lower() + reason[1:] + allowed(cls, key)
        raise WrongValueError(f"{key}{shown}: {reason}") from None


def cls_secrets(cls: type[msgspec.Struct]) -> Mapping[str, type[Secret]]:
    """Return the secret fields of a databag; none for any other struct."""
    return cls.secrets() if issubclass(cls, Databag) else {}


def allowed(cls: type[msgspec.Struct], key: str) -> str:
    """Return "; allowed: ..." from the field's Literal or its Meta description, or nothing."""
    for it in msgspec.structs.fields(cls):
        if it.encode_name != key:
            continue
        if typing.get_origin(it.type) is Literal:
            return f"; allowed: {', '.join(map(str, typing.get_args(it.type)))}"
        for part in getattr(it.type, "__metadata__", ()):
            if isinstance(part, msgspec.Meta) and part.description:
                return f"; allowed: {part.description}"
    return ""
