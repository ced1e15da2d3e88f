"""Reads what a charm says of itself, from its source folder, an unpacked charm or a packed .charm."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

Role = Literal["peer", "provider", "requirer"]


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

    @property
    def least(self) -> int:
        """Return the number of instances that a unit gets when nobody says a number."""
        return int(str(self.range).split("-", 1)[0] or 0)


class Storage(_Wire):
    """A storage that the charm declares."""

    type: str = "filesystem"
    description: str = ""
    location: str = ""
    minimum_size: str = "1G"
    multiple: Multiple | None = None


class Option(_Wire):
    """A config option; `default` is None when it has none."""

    type: Literal["string", "int", "float", "boolean", "secret"]
    default: str | int | float | bool | None = None
    description: str = ""


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
        raise CharmError(f'charm at "{path}" is not valid: {" ".join(str(error).split())}') from None


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
