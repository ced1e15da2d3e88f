"""Pools of nodes: what the option `pools` says, and what a pool means to Kubernetes."""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

GPU = "nvidia.com/gpu"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_WORD}"
_LABEL = re.compile(rf"({_KEY})=({_WORD})")
_TAINT = re.compile(rf"({_KEY})(?:=({_WORD}))?:({'|'.join(EFFECTS)})")
_QUANTITY = re.compile(
    r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:[eE]([+-]?\d{1,2})|([KMGTPE]i|[numkMGTPE]))?"
)
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


class WrongPoolsError(ValueError):
    """What is wrong with the option, in a line that names pool, key, value and what is allowed."""


class Toleration(msgspec.Struct, frozen=True, omit_defaults=True):
    """A toleration, as it stands in a pod's spec."""

    key: str
    operator: str
    effect: str
    value: str | None = None


class Taint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A taint, as it stands in a node's spec."""

    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"

    @property
    def toleration(self) -> Toleration:
        """Return what tolerates this taint and no other."""
        if self.value:
            return Toleration(self.key, "Equal", self.effect, self.value)
        return Toleration(self.key, "Exists", self.effect)


class Pool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nodes of one label, and what they must be.

    Attributes:
        key: The label's key.
        value: The label's value.
        cpu: Cores that each node must have.
        memory: Bytes that each node must have.
        gpus: Devices of the resource `nvidia.com/gpu` that each node must have.
        gpu_type: The word of `types` that made this pool.
    """

    name: str
    key: str
    value: str
    taint: Taint | None = None
    minimum_nodes: int = 0
    maximum_nodes: int | None = None
    cpu: float = 0
    memory: int = 0
    gpus: int = 0
    gpu_type: str | None = None

    @property
    def label(self) -> str:
        """Return the label as `KEY=VALUE`."""
        return f"{self.key}={self.value}"

    @property
    def selector(self) -> dict[str, str]:
        """Return the `nodeSelector` of the pool."""
        return {self.key: self.value}

    @property
    def tolerations(self) -> tuple[Toleration, ...]:
        """Return what a pod on the pool needs to tolerate."""
        return (self.taint.toleration,) if self.taint else ()


def dump(pools: tuple[Pool, ...]) -> str:
    """Return the pools as the JSON that `load` reads."""
    return msgspec.json.encode(pools).decode()


def load(text: str | bytes) -> tuple[Pool, ...]:
    """Return the pools of what `dump` gave.

    Raises:
        WrongPoolsError: It is not that.
    """
    try:
        found = msgspec.json.decode(text, type=tuple[Pool, ...])
    except msgspec.MsgspecError as error:
        raise WrongPoolsError(f"pools: {error}") from None
    if not found:
        raise WrongPoolsError("pools: expected at least one")
    return found


def parse(text: str) -> tuple[Pool, ...]:
    """Return the pools that the option, a list in YAML, describes.

    Raises:
        WrongPoolsError: A word of it is not allowed.
    """
    try:
        entries = msgspec.yaml.decode(text)
    except msgspec.MsgspecError as error:
        raise WrongPoolsError(f"pools: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list) or not entries:
        raise WrongPoolsError("pools: expected a list of pools, each with a name and a label")
    found: list[Pool] = []
    for number, entry in enumerate(entries, start=1):
        for pool in _pools(number, entry):
            for it in found:
                if it.name == pool.name:
                    raise _wrong(pool.name, "name", pool.name, "a name that no other pool has")
                if it.label == pool.label:
                    raise _wrong(pool.name, "label", pool.label, f"another than {it.name} has")
            found.append(pool)
    return tuple(found)


@lru_cache(maxsize=4096)
def quantity(text: str) -> Decimal:
    """Return the number that a Kubernetes quantity ("500m", "16G", "32Gi", "1e3") stands for.

    Raises:
        ValueError: It is none.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(text)
    number, exponent, suffix = match.groups()
    if suffix and suffix.endswith("i"):
        return Decimal(number) * 1024 ** ("KMGTPE".index(suffix[0]) + 1)
    return Decimal(number).scaleb(int(exponent or 0) or _POWERS.get(suffix or "", 0))


def _wrong(pool: str, key: str, value: object, expected: str) -> WrongPoolsError:
    shown = " ".join(str(value).split())
    return WrongPoolsError(f"pools: {pool}: {key}={shown}: expected {expected}")


def _text(pattern: str | re.Pattern[str]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        match = re.fullmatch(pattern, value) if isinstance(value, str) else None
        if not match:
            raise ValueError
        return match.groups() or value

    return read


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    if (amount := quantity(str(value))) < 0:
        raise ValueError
    return amount


def _types(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return [_text(_WORD)(it) for it in value]


_WORDS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "name": (_text(_WORD), "letters, digits and dashes, at most 63"),
    "label": (_text(_LABEL), "KEY=VALUE"),
    "taint": (_text(_TAINT), f"KEY[=VALUE]:EFFECT, EFFECT one of {', '.join(EFFECTS)}"),
    "minimum-nodes": (_count, "a whole number"),
    "maximum-nodes": (_count, "a whole number"),
    "cpu": (_amount, "a number of CPUs, such as 4"),
    "memory": (_amount, "a Kubernetes quantity, such as 16G"),
    "gpus": (_count, "a whole number"),
    "types": (_types, "a list of types, such as [v100, A30]"),
}


def _pools(number: int, entry: Any) -> Iterator[Pool]:
    """Yield the pools of an entry: one, or one for each of its types."""
    if not isinstance(entry, dict):
        raise WrongPoolsError(f"pools: entry {number}: expected keys and values: name, label, ...")
    place = str(entry.get("name", f"entry {number}"))
    for key, value in entry.items():
        if key not in _WORDS:
            raise _wrong(place, key, value, f"one of the keys {', '.join(_WORDS)}")
    if "types" not in entry:
        for key, value in entry.items():
            if "{type}" in str(value):
                raise _wrong(place, key, value, "types beside it, of which {type} is one")
        yield _pool(place, entry, None)
        return
    plain = {key: it for key, it in entry.items() if key != "types"}
    for it in _read(place, "types", entry["types"]):
        typed = {
            key: value.replace("{type}", it)
            if key in ("label", "taint") and isinstance(value, str)
            else value
            for key, value in plain.items()
        }
        yield _pool(
            place, {**typed, "name": f"{_read(place, 'name', entry.get('name'))}-{it}"}, it
        )


def _read(place: str, key: str, value: Any) -> Any:
    read, expected = _WORDS[key]
    try:
        return read(value)
    except ValueError:
        shown = "" if value is None else value
        raise _wrong(place, key, shown, expected) from None


def _pool(place: str, entry: Mapping[str, Any], gpu_type: str | None) -> Pool:
    words = {"name": None, "label": None, **entry}
    said = {key: _read(place, key, value) for key, value in words.items()}
    key, value = said["label"]
    taint = None
    if "taint" in said:
        tainted, worth, effect = said["taint"]
        taint = Taint(tainted, effect, worth or "")
    minimum, maximum = said.get("minimum-nodes", 0), said.get("maximum-nodes")
    if maximum is not None and minimum > maximum:
        raise _wrong(place, "minimum-nodes", minimum, f"at most maximum-nodes={maximum}")
    return Pool(
        name=said["name"],
        key=key,
        value=value,
        taint=taint,
        minimum_nodes=minimum,
        maximum_nodes=maximum,
        cpu=float(said.get("cpu", 0)),
        memory=int(said.get("memory", 0)),
        gpus=said.get("gpus", 0),
        gpu_type=gpu_type,
    )
