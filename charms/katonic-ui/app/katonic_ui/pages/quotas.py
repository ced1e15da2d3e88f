"""Quotas as a form has them, cores and GiB, and as the API has them, cores and bytes."""

from collections.abc import Mapping
from typing import Any

from katonic_ui.problems import Problem
from katonic_ui.rendering import GIB
from katonic_ui.visits import Visit

NONE: Mapping[str, None] = {"cpu": None, "memory": None, "gpus": None, "storage": None}
_FACTORS = {"cpu": 1, "memory": GIB, "gpus": 1, "storage": GIB}


def shown(quota: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the API says as a form shows it."""
    return {
        name: None if quota[name] is None else f"{quota[name] / factor:g}"
        for name, factor in _FACTORS.items()
    }


def typed(visit: Visit) -> dict[str, str | None]:
    """Return what has been typed, to be shown again."""
    return {name: visit.text(name) or None for name in _FACTORS}


def read(visit: Visit) -> dict[str, Any]:
    """Return what has been typed, as the API takes it.

    Raises:
        Problem: Something is no number.
    """
    found: dict[str, Any] = {}
    for name, factor in _FACTORS.items():
        text = visit.text(name).replace(",", ".")
        try:
            value = float(text) * factor if text else None
        except ValueError:
            raise _wrong(name, "A number is expected, or nothing") from None
        found[name] = value if name == "cpu" or value is None else int(value)
    return found


def _wrong(name: str, text: str) -> Problem:
    return Problem(422, errors=[{"loc": ["quota", name], "msg": text}])
