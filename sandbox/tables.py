"""What Juju prints for people: columns of text with colours, and YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

GREEN, YELLOW, RED = 32, 33, 31
COLOURS = {
    **dict.fromkeys(("active", "idle"), GREEN),
    **dict.fromkeys(("executing", "maintenance", "waiting", "allocating"), YELLOW),
    **dict.fromkeys(("blocked", "error", "lost"), RED),
}
STATUS = re.compile(rf"(?<= )({'|'.join(COLOURS)})(?= |$)")


def as_yaml(value: Any) -> str:
    """Return YAML as Go writes it: text of several lines as a block, long lines whole."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """A dumper of its own, as representers belong to a class."""

    def text(dumper: yaml.SafeDumper, it: str) -> yaml.ScalarNode:
        style = "|" if "\n" in it else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", it, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1 << 30)


def table(rows: Sequence[Sequence[Any]], *, colour: bool = False) -> str:
    """Return rows as columns; a status word gets its colour if `colour`."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    text = "\n".join(lines)
    if not colour:
        return text
    return STATUS.sub(lambda word: f"\x1b[{COLOURS[word[1]]}m{word[1]}\x1b[0m", text)


def status(
    found: Mapping[str, Any], relations: Sequence[Sequence[str]] = (), *, colour: bool = False
) -> str:
    """Return `juju status` as its tables, from its JSON and the rows of its relations."""
    model, apps = found["model"], found["applications"]
    top = [model["name"], model["controller"], model["cloud"], model["version"]]
    head = ["Model", "Controller", "Cloud/Region", "Version", "Timestamp"]
    parts = [table([head, [*top, found["controller"]["timestamp"]]])]
    if apps:
        head = ["App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Address"]
        head += ["Exposed", "Message"]
        parts.append(table([head, *(_application(*app) for app in apps.items())], colour=colour))
    units = [
        _unit(*unit) for app in apps.values() for unit in sorted(app.get("units", {}).items())
    ]
    if units:
        head = ["Unit", "Workload", "Agent", "Address", "Ports", "Message"]
        parts.append(table([head, *units], colour=colour))
    if relations:
        head = ["Integration provider", "Requirer", "Interface", "Type", "Message"]
        parts.append(table([head, *([*row, ""] for row in relations)]))
    return "\n\n".join(parts)


def _application(name: str, app: Mapping[str, Any]) -> list[Any]:
    agents = [unit["juju-status"]["current"] for unit in app.get("units", {}).values()]
    ready = sum(agent in ("idle", "executing") for agent in agents)
    scale = app["scale"] if ready == app["scale"] else f"{ready}/{app['scale']}"
    state, exposed = app["application-status"], "yes" if app["exposed"] else "no"
    charm = [app["charm-name"], "", app["charm-rev"], app.get("address")]
    message = state.get("message")
    return [name, app.get("version"), state["current"], scale, *charm, exposed, message]


def _unit(name: str, unit: Mapping[str, Any]) -> list[Any]:
    workload, agent = unit["workload-status"], unit["juju-status"]
    message = workload.get("message", "")
    if agent["current"] == "executing" and "message" in agent:
        doing = re.sub(r"^running (action )?| hook$", "", agent["message"])
        message = f"({doing}) {message}"
    ports = ",".join(unit.get("open-ports", []))
    star = "*" if unit.get("leader") else ""
    statuses = [workload["current"], agent["current"]]
    return [name + star, *statuses, unit.get("address"), ports, message]
