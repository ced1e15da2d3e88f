"""Reads a bundle and its overlays as `juju deploy` does, and says what is to be done for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import yaml

from sandbox.charm import Value
from sandbox.model import Application as Present
from sandbox.model import Model

BASE = "ubuntu@24.04/stable"
CONSTRAINTS = re.compile(
    "allocate-public-ip|arch|container|cores|cpu-power|image-id|instance-role|instance-type|mem"
    "|root-disk|root-disk-source|spaces|tags|virt-type|zones"
)


class BundleError(Exception):
    """A bundle cannot be deployed; the text is Juju's."""


class Application(pydantic.BaseModel):
    """An application of a bundle, as written."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    charm: str = ""
    scale: int | None = None
    num_units: int | None = None
    options: dict[str, Value] = {}
    resources: dict[str, str] = {}
    constraints: str = ""
    storage: dict[str, str] = {}
    trust: bool = False
    annotations: dict[str, str] = {}
    expose: bool = False
    base: str = ""
    channel: str = ""
    revision: int | None = None
    to: Any = None
    placement: Any = None
    offers: dict[str, Any] = {}

    @property
    def units(self) -> int:
        """Return how many units are asked for; none when nobody said how many."""
        return max(self.scale or self.num_units or 0, 0)


class Bundle(pydantic.BaseModel):
    """A bundle with its overlays merged in; charms are absolute paths."""

    model_config = pydantic.ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    bundle: str = ""
    default_base: str = pydantic.Field(BASE, alias="default-base")
    description: str = ""
    docs: str = ""
    tags: list[str] = []
    applications: dict[str, Application] = {}
    relations: list[list[str]] = []
    machines: Any = None
    saas: dict[str, Any] = {}


@dataclass(frozen=True)
class Change:
    """One thing to do: Juju's line for it, and the verb and arguments of verbs.py that do it.

    `notes` are the lines Juju prints when it is done; `where` goes before an error's text. An
    empty verb is done by having been said.
    """

    text: str
    verb: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    where: str = "cannot deploy bundle: "


def read_bundle(path: Path, overlays: Sequence[Path] = ()) -> tuple[Bundle, list[str]]:
    """Return a bundle with its overlays, and warnings for what is ignored in them.

    Raises BundleError in Juju's words.
    """
    merged: dict[str, Any] = {}
    warnings: list[str] = []
    for file in (path, *overlays):
        for number, (document, node) in enumerate(_documents(file)):
            warnings += _unknown(node, number)
            _merge(merged, document, file.parent)
    if not merged:
        raise BundleError("cannot deploy bundle: malformed bundle: bundle is empty not valid")
    gone = {name for name, body in merged.get("applications", {}).items() if body is None}
    merged["applications"] = {
        name: body for name, body in merged.get("applications", {}).items() if name not in gone
    }
    merged["relations"] = [
        ends
        for ends in merged.get("relations", [])
        if not any(str(end).partition(":")[0] in gone for end in ends)
    ]
    try:
        bundle = Bundle.model_validate(merged)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BundleError(f"{_UNMARSHAL}0: {place}: {first['msg'].lower()}") from None
    _verify(bundle)
    return bundle, warnings


def untrusted(bundle: Bundle) -> str:
    """Return the error of a deploy without --trust, or "" when nothing asks for trust."""
    names = [name for name, it in sorted(bundle.applications.items()) if it.trust]
    if not names:
        return ""
    return (
        "Bundle cannot be deployed without trusting applications with your cloud credentials.\n"
        "Please repeat the deploy command with the --trust argument if you consent to trust the "
        "following application(s):\n" + "\n".join(f"  - {name}" for name in names)
    )


def changes(bundle: Bundle, model: Model, pack: Callable[[Path], str] = str) -> list[Change]:
    """Return what makes the model hold the bundle, in Juju's order; nothing when it does.

    `pack` returns the packed charm of a path.
    """
    found: list[Change] = []
    uploaded: set[str] = set()
    for name, wanted in sorted(bundle.applications.items()):
        charm = pack(Path(wanted.charm))
        present = model.applications.get(name)
        base = wanted.base or bundle.default_base
        base = base if "/" in base else f"{base}/stable"
        if charm not in uploaded and (present is None or _differs(present, charm)):
            uploaded.add(charm)
            found.append(Change(f"upload charm {wanted.charm} for base {base}"))
        if present is None:
            found.append(_deploy(name, wanted, charm, base))
        else:
            found += _update(present, wanted, charm)
        annotations = present.annotations if present else {}
        if wanted.annotations.items() - annotations.items():
            arguments = {"name": name, "annotations": wanted.annotations}
            found.append(Change(f"set annotations for {name}", "annotate", arguments))
        if wanted.expose and not (present and present.exposed):
            arguments = {"name": name, "exposed": True}
            found.append(Change(f"expose all endpoints of {name}", "expose", arguments))
    for one, other in bundle.relations:
        if not model.related(one, other):
            found.append(
                Change(
                    f"add relation {one} - {other}",
                    "integrate",
                    {"one": one, "other": other},
                    where=f"cannot deploy bundle: cannot add relation between "
                    f'"{one}" and "{other}": ',
                )
            )
    return found


def parse_constraints(text: str) -> dict[str, str]:
    """Return constraints by name; raises ValueError in Juju's words."""
    found = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f'malformed constraint "{word}"')
        if not CONSTRAINTS.fullmatch(name):
            raise ValueError(f'unknown constraint "{name}"')
        if name in ("mem", "root-disk") and not re.fullmatch(r"(\d+(\.\d+)?[MGTP]?)?", value):
            need = "must be a non-negative float with optional M/G/T/P suffix"
            raise ValueError(f'bad "{name}" constraint: {need}')
        found[name] = value
    return found


def _deploy(name: str, wanted: Application, charm: str, base: str) -> Change:
    number = wanted.units
    count = f" with {number} unit{'s' if number > 1 else ''}" if number else ""
    arguments = {
        "charm": charm,
        "name": name,
        "complete": False,
        "scale": number,
        "config": wanted.options,
        "constraints": parse_constraints(wanted.constraints),
        "resources": wanted.resources,
        "storage": wanted.storage,
        "trust": wanted.trust,
    }
    return Change(
        f"deploy application {name}{count} on {base}",
        "deploy",
        arguments,
        tuple(f"added resource {resource}" for resource in sorted(wanted.resources)),
        f'cannot deploy bundle: cannot deploy application "{name}": ',
    )


def _update(present: Present, wanted: Application, charm: str) -> Iterator[Change]:
    name = present.name
    new = wanted.resources.items() - present.resources.items()
    if _differs(present, charm):
        arguments = {"name": name, "charm": charm, "resources": wanted.resources}
        yield Change(f"upgrade {name} from local charm {wanted.charm}", "refresh", arguments)
    else:
        for resource, value in sorted(new):
            arguments = {"name": name, "resource": resource, "value": value}
            yield Change(f"upload resource {resource} for {name}", "attach-resource", arguments)
    constraints = parse_constraints(wanted.constraints)
    if constraints != present.constraints:
        arguments = {"name": name, "constraints": constraints}
        text = f"set constraints for {name} to {json.dumps(wanted.constraints)}"
        yield Change(text, "set-constraints", arguments)
    options = present.charm.parse(wanted.options, strict=False)
    if set(wanted.options) - set(options) or options.items() - present.settings().items():
        arguments = {"name": name, "values": wanted.options}
        yield Change(f"set application options for {name}", "set-config", arguments)
    if wanted.trust and not present.trust:
        yield Change(f"trust {name}", "trust", {"name": name, "trust": True})
    if (wanted.scale is not None or wanted.num_units) and wanted.units != present.scale:
        arguments = {"name": name, "scale": wanted.units}
        yield Change(f"scale {name} to {wanted.units} units", "scale", arguments)


def _differs(present: Present, charm: str) -> bool:
    return present.charm.path.name != Path(charm).name


def _documents(path: Path) -> Iterator[tuple[dict[str, Any], yaml.Node]]:
    try:
        text = path.read_text()
        for node in yaml.compose_all(text, yaml.SafeLoader):
            document = yaml.safe_load(text[node.start_mark.index : node.end_mark.index])
            if isinstance(document, dict):
                yield document, node
    except OSError as error:
        raise BundleError(f"cannot deploy bundle: open {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise BundleError(f"{_UNMARSHAL}0: yaml: line {line}: {error.problem}") from None


_UNMARSHAL = "cannot deploy bundle: cannot unmarshal bundle contents: unmarshal document "


def _unknown(node: yaml.Node, number: int) -> list[str]:
    """Return a warning about keys that Juju does not know, with their lines."""
    lines = []
    for key, value in node.value:
        if key.value not in {f.alias or n for n, f in Bundle.model_fields.items()}:
            what = f"field {key.value} not found in type charm.bundleData"
            lines.append(f"  line {key.start_mark.line + 1}: {what}")
        elif key.value == "applications" and isinstance(value, yaml.MappingNode):
            for _, body in value.value:
                for inner, _ in body.value if isinstance(body, yaml.MappingNode) else ():
                    if inner.value not in Application.model_fields:
                        what = f"field {inner.value} not found in applications"
                        lines.append(f"  line {inner.start_mark.line + 1}: {what}")
    if not lines:
        return []
    head = f"These fields\n unmarshal document {number}: yaml: unmarshal errors:\n"
    return [head + "\n".join(lines) + "\nwill be ignored during deployment"]


def _merge(merged: dict[str, Any], document: Mapping[str, Any], folder: Path) -> None:
    """Merge a document into those before it: applications key by key, relations added."""
    for key, value in document.items():
        if key == "applications":
            applications = merged.setdefault(key, {})
            for name, body in (value or {}).items():
                if body is None:
                    applications[name] = None
                    continue
                if {"scale", "num_units"} <= body.keys():
                    wrong = f'cannot specify both scale and num_units for application "{name}"'
                    raise BundleError(f"{_UNMARSHAL}0: {wrong}")
                known = applications.setdefault(name, {}) or {}
                for field_, new in body.items():
                    if field_ in ("scale", "num_units"):
                        known.pop("scale", None)
                        known.pop("num_units", None)
                    if field_ == "charm":
                        new = str((folder / new).resolve()) if new.startswith((".", "/")) else new
                    old = known.get(field_)
                    if isinstance(old, dict) and isinstance(new, dict):
                        new = {**old, **new}
                    known[field_] = new
                applications[name] = known
        elif key == "relations":
            merged.setdefault(key, []).extend(it for it in value if it not in merged[key])
        else:
            merged[key] = value


def _verify(bundle: Bundle) -> None:
    """Check what Juju checks before it makes anything."""
    wrong = []
    if bundle.machines:
        wrong.append("bundle machines not valid for Kubernetes bundles")
    for name, wanted in sorted(bundle.applications.items()):
        path = Path(wanted.charm)
        if not path.is_absolute():
            raise BundleError(
                f'cannot deploy bundle: cannot resolve charm or bundle "{wanted.charm}": '
                f"the sandbox has no Charmhub, name a .charm file or a charm's folder"
            )
        if not path.exists():
            wrong.append(f'charm path in application "{name}" does not exist: {path}')
        elif path.is_dir() and not (path / "charmcraft.yaml").exists():
            raise BundleError(f"cannot deploy bundle: read {path}: is a directory")
        try:
            parse_constraints(wanted.constraints)
        except ValueError as error:
            what = f'invalid constraints "{wanted.constraints}" in application "{name}"'
            wrong.append(f"{what}: {error}")
        if wanted.to or wanted.placement:
            wrong.append(f'application "{name}": placement is not valid in a Kubernetes bundle')
        if wanted.offers or bundle.saas:
            raise BundleError("cannot deploy bundle: the sandbox has no cross-model relations")
    for ends in bundle.relations:
        shown = f"[{' '.join(json.dumps(end) for end in ends)}]"
        if len(ends) != 2:
            wrong.append(f"relation {shown} has {len(ends)} endpoint(s), not 2")
        for end in ends if len(ends) == 2 else ():
            name = end.partition(":")[0]
            if name not in bundle.applications:
                what = f'refers to application "{name}" not defined in this bundle'
                wrong.append(f"relation {shown} {what}")
    if wrong:
        head = "cannot deploy bundle: the provided bundle has the following errors:\n"
        raise BundleError(head + "\n".join(wrong))
