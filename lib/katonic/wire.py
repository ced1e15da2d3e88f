"""Databags as typed values: how an interface's fields stand on Juju's wire."""

import functools
import json
import re
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
    def complete(cls, raw: Mapping[str, str]) -> bool:
        """Return whether the far side has said all without which there is no data yet."""
        return raw.keys() >= {it.encode_name for it in _fields(cls) if it.required}


@functools.cache
def _fields(cls: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return a type's fields, whose types msgspec looks up anew each time."""
    return msgspec.structs.fields(cls)


@functools.cache
def _secrets(cls: type[Databag]) -> dict[str, type[Secret]]:
    found = {}
    for name, hint in typing.get_type_hints(cls).items():
        for part in _alternatives(hint):
            if isinstance(part, type) and issubclass(part, Secret):
                found[_key(cls, name)] = part
    return found


def _key(cls: type[msgspec.Struct], name: str) -> str:
    return next(it.encode_name for it in _fields(cls) if it.name == name)


def encode(bag: Databag, seal: Callable[[str, dict[str, str]], str]) -> dict[str, str]:
    """Return the bag as it stands on the wire.

    `seal` gets each secret's place ("secret-user", "requests.0.secret-user") and content, and
    returns the URI that stands for it.
    """
    return {key: _to_wire(bag, value) for key, value in _sealed(bag, "", seal).items()}


def _sealed(value: Any, place: str, seal: Callable[[str, dict[str, str]], str]) -> Any:
    match value:
        case Secret():
            return seal(place[1:], present(msgspec.to_builtins(value)))
        case msgspec.Struct():
            fields = {it.encode_name: it.name for it in _fields(type(value))}
            parts = {key: getattr(value, name) for key, name in fields.items()}
            return _sealed(present(parts), place, seal)
        case Mapping():
            return {key: _sealed(part, f"{place}.{key}", seal) for key, part in value.items()}
        case list() | tuple():
            return [_sealed(part, f"{place}.{index}", seal) for index, part in enumerate(value)]
        case _:
            return msgspec.to_builtins(value)


def present(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has a value."""
    return {key: value for key, value in content.items() if value is not None}


def _to_wire(bag: Databag, value: Any) -> str:
    return value if bag.wire == "raw" and isinstance(value, str) else json.dumps(value)


def secret_at(raw: Mapping[str, str], place: str) -> str:
    """Return the URI of the secret at a place in a databag, or nothing when there is none."""
    key, *path = place.split(".")
    value = _from_json(raw.get(key, ""))
    for part in path:
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (LookupError, TypeError):
            return ""
    return value


def secrets_in(raw: Mapping[str, str]) -> set[str]:
    """Return the URIs of all the secrets that a databag names, wherever in it."""
    return {uri for value in raw.values() for uri in re.findall(r'\bsecret:[^"\\\s,]+', value)}


def decode(
    cls: type[Bag], raw: Mapping[str, str], open_secret: Callable[[str], Mapping[str, str]]
) -> Bag | None:
    """Return a databag's typed value, its secrets opened, or None while required keys lack.

    Raises:
        WrongValueError: A key's value is not what its type allows.
    """
    if not cls.complete(raw):
        return None
    text = {it.encode_name for it in _fields(cls) if _is_text(it.type)}
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
    return all(it is str or typing.get_origin(it) is Literal for it in _alternatives(hint))


def _alternatives(hint: Any) -> list[Any]:
    """Return what a value may be, when it is not None."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [it for it in parts if it is not types.NoneType]


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
        reason = reason[0].lower() + reason[1:] + allowed(cls, key)
        if issubclass(cls, Databag) and key in cls.secrets():
            reason = f"{'.'.join(path[1:])} {reason.partition(' value ')[0]}".strip()
            raise WrongValueError(f"{key}: {reason}") from None
        raise WrongValueError(f"{key}={data.get(key)}: {reason}") from None


def allowed(cls: type[msgspec.Struct], key: str) -> str:
    """Return "; allowed: ..." from the field's Literal or its Meta description, or nothing."""
    (hint,) = [it.type for it in _fields(cls) if it.encode_name == key] or [None]
    words = _allowed(hint)
    return f"; allowed: {words}" if words else ""


def _allowed(hint: Any) -> str:
    if isinstance(hint, msgspec.Meta):
        return hint.description or ""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return ", ".join(map(str, parts))
    return next(filter(None, map(_allowed, (*parts, *getattr(hint, "__metadata__", ())))), "")
