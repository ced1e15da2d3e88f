"""Reads what a charm says of itself: a source folder, an unpacked charm or a packed one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

Role = Literal["peer", "provider", "requirer"]
Value = str | int | float | bool


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, Mapping),
}


class _Wire(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class Mount(_Wire):
    """A storage of the charm and where a workload container sees it."""

    storage: str
    location: str = ""


class Workload(_Wire):
    """A workload container: its image's resource, its mounts, the uid and gid it runs as."""

    resource: str = ""
    mounts: tuple[Mount, ...] = ()
    uid: int | None = None
    gid: int | None = None


class Endpoint(_Wire):
    """One end of relations: name, role, interface and how many relations it takes."""

    name: str = ""
    role: Role = "requirer"
    interface: str
    limit: int | None = None
    optional: bool = False
    scope: Literal["global", "container"] = "global"


class Multiple(_Wire):
    """How many instances of a storage a unit has, like `0-`, `1` or `2-5`."""

    range: str | int


class Storage(_Wire):
    """A storage that the charm declares."""

    type: str = "filesystem"
    description: str = ""
    location: str = ""
    minimum_size: str = "1G"
    multiple: Multiple | None = None

    @property
    def least(self) -> int:
        """Return the number of instances that a unit gets when nobody says a number."""
        return int(str(self.multiple.range).split("-", 1)[0] or 0) if self.multiple else 1


class Option(_Wire):
    """A config option; `default` is None when it has none."""

    type: Literal["string", "int", "float", "boolean", "secret"]
    default: Value | None = None
    description: str = ""

    def parse(self, name: str, value: Value) -> Value:
        """Return the value in the option's type; raises ValueError in Juju's words."""
        text = str(value)
        if self.type == "string":
            return text
        if self.type == "secret":
            if text and not text.startswith("secret:"):
                wrong = f'secret URI "{text}" not valid'
                raise ValueError(f'invalid secret URI for option "{name}": {wrong}')
            return text
        if self.type == "boolean" and text in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if self.type == "boolean" and text in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        try:
            if self.type != "boolean":
                return int(text) if self.type == "int" else float(text)
        except ValueError:
            pass
        raise ValueError(f'option "{name}" expected {self.type}, got "{text}"')


class Resource(_Wire):
    """An OCI image or a file that the charm asks for."""

    type: str
    description: str = ""
    upstream_source: str = ""
    filename: str = ""


class Action(_Wire):
    """An action and the JSON schema of its parameters."""

    description: str = ""
    params: dict[str, dict[str, Any]] = pydantic.Field(default_factory=dict)
    required: tuple[str, ...] = ()
    additional_properties: bool = pydantic.Field(False, alias="additionalProperties")

    def defaults(self) -> dict[str, Any]:
        """Return the parameters that have a default."""
        return {n: p["default"] for n, p in self.params.items() if "default" in p}

    def refusal(self, params: Mapping[str, Any]) -> str:
        """Return why Juju refuses the parameters, in its words, or ""."""
        given = json.dumps(dict(params), separators=(",", ":"), sort_keys=True)
        for name in self.required:
            if name not in params:
                return f'(root) : "{name}" property is missing and required, given {given}'
        for name, value in params.items():
            schema = self.params.get(name)
            if schema is None:
                if not self.additional_properties:
                    return f'(root) : additional property "{name}" is not allowed, given {given}'
                continue
            kind = schema.get("type")
            if kind in _TYPES and not _TYPES[kind](value):
                shown = json.dumps(value if isinstance(value, str) else str(value))
                return f"(root).{name} : must be of type {kind}, given {shown}"
            if "enum" in schema and value not in schema["enum"]:
                choices = json.dumps(schema["enum"], separators=(",", ":"))
                return f"(root).{name} : must match one of the enum values {choices}"
        return ""


class Charm(_Wire):
    """A charm's metadata, options and actions, and the path it was read from."""

    name: str
    path: Path = Path()
    revision: int = 0
    summary: str = ""
    description: str = ""
    charm_user: Literal["root", "sudoer", "non-root"] = "root"
    containers: dict[str, Workload] = pydantic.Field(default_factory=dict)
    storage: dict[str, Storage] = pydantic.Field(default_factory=dict)
    resources: dict[str, Resource] = pydantic.Field(default_factory=dict)
    endpoints: dict[str, Endpoint] = pydantic.Field(default_factory=dict)
    options: dict[str, Option] = pydantic.Field(default_factory=dict)
    actions: dict[str, Action] = pydantic.Field(default_factory=dict)

    def parse(self, values: Mapping[str, Value], *, strict: bool = True) -> dict[str, Value]:
        """Return config values in their options' types.

        Raises ValueError in Juju's words; not strict, leaves out what does not fit.
        """
        parsed: dict[str, Value] = {}
        for name, value in sorted(values.items()):
            try:
                if name not in self.options:
                    raise ValueError(f'unknown option "{name}"')
                parsed[name] = self.options[name].parse(name, value)
            except ValueError:
                if strict:
                    raise
        return parsed

    @property
    def peers(self) -> tuple[Endpoint, ...]:
        """Return the peer endpoints."""
        return tuple(e for e in self.endpoints.values() if e.role == "peer")

    def missing_images(self, resources: Mapping[str, str]) -> tuple[str, ...]:
        """Return the OCI images that `resources` leaves out, in order of their names."""
        images = (n for n, r in self.resources.items() if r.type == "oci-image")
        return tuple(sorted(name for name in images if name not in resources))


class CharmError(Exception):
    """A charm cannot be read; the text is one line in Juju's words where Juju has words."""


def read_charm(path: Path) -> Charm:
    """Return the charm at `path`: a source folder, an unpacked charm, or a .charm file.

    Raises CharmError when there is none or when its files are not valid.
    """
    if path.is_dir():
        files = {p.name: p.read_text() for p in path.glob("*.yaml")}
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as packed:
                names = ("metadata.yaml", "config.yaml", "actions.yaml")
                files = {n: packed.read(n).decode() for n in names if n in packed.namelist()}
        except zipfile.BadZipFile:
            raise CharmError(f"{path} is not a packed charm") from None
    else:
        raise CharmError(f'no charm was found at "{path}"')
    try:
        return _parse({name: yaml.safe_load(text) or {} for name, text in files.items()}, path)
    except (yaml.YAMLError, pydantic.ValidationError) as error:
        raise CharmError(
            f'charm at "{path}" is not valid: {" ".join(str(error).split())}'
        ) from None


def _parse(files: Mapping[str, dict[str, Any]], path: Path) -> Charm:
    raw = dict(files.get("charmcraft.yaml") or files.get("metadata.yaml") or {})
    if "name" not in raw:
        raise CharmError(f'no charm was found at "{path}"')
    config = files.get("config.yaml") or raw.get("config") or {}
    groups: dict[str, Role] = {"peers": "peer", "provides": "provider", "requires": "requirer"}
    raw["endpoints"] = {
        name: {**body, "name": name, "role": role}
        for group, role in groups.items()
        for name, body in (raw.get(group) or {}).items()
    }
    raw["options"] = config.get("options") or {}
    raw["actions"] = {
        name: body or {}
        for name, body in (files.get("actions.yaml") or raw.get("actions") or {}).items()
    }
    raw["containers"] = {n: c or {} for n, c in (raw.get("containers") or {}).items()}
    return Charm.model_validate({**raw, "path": path.resolve()})
