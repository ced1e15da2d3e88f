"""Shows a plan to a person, its secrets masked."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from katonic.plan import Container, Effect, File, Plan, Service, Step
from katonic.wire import Secret

MASK = "********"


def show(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain data, without what is in it by default, secrets as asterisks."""
    return {
        it.name: shown
        for it in dataclasses.fields(plan)
        if (shown := _show(getattr(plan, it.name))) not in (None, [], {}, "None")
    }


def _show(value: Any) -> Any:
    match value:
        case Secret():
            return dict.fromkeys(msgspec.to_builtins(value), MASK)
        case _ if hasattr(value, "metadata"):
            return f"{type(value).__name__} {value.metadata.name}"
        case msgspec.Struct():
            fields = msgspec.structs.fields(value)
            return {it.encode_name: _show(getattr(value, it.name)) for it in fields}
        case Service() | Step():
            secret = {"secrets"} if isinstance(value, Service) else {"environment"}
            return {
                it.name: dict.fromkeys(getattr(value, it.name), MASK)
                if it.name in secret
                else _show(getattr(value, it.name))
                for it in dataclasses.fields(value)
            }
        case File(content=content, permissions=permissions):
            return content if permissions & 0o077 else MASK
        case Effect(name=name):
            return name
        case Container():
            return {it.name: _show(getattr(value, it.name)) for it in dataclasses.fields(value)}
        case Mapping():
            return {str(key): _show(it) for key, it in value.items()}
        case list() | tuple():
            return [_show(it) for it in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
