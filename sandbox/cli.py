"""`juju` for the sandbox: Juju's verbs, arguments, JSON, error texts and exit codes.

What a command costs is mostly Python's start, so this imports little; the controller does the work.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sandbox import controller
from sandbox.controller import Refused

Arguments = argparse.Namespace
COLOURS = {
    "active": 32,
    "idle": 32,
    "executing": 33,
    "maintenance": 33,
    "waiting": 33,
    "allocating": 33,
    "blocked": 31,
    "error": 31,
    "lost": 31,
}


class UsageError(Exception):
    """The command line is wrong in itself: exit code 2."""


class Session:
    """One run of the command line: the controller, and the model it is about."""

    def __init__(self, arguments: Arguments):
        self.arguments = arguments
        self.record = controller.ensure(lambda text: print(text, file=sys.stderr, flush=True))
        self._model = (getattr(arguments, "model", None) or "").rpartition(":")[2]

    @property
    def model(self) -> str:
        """Return the model's name: -m, then JUJU_MODEL, then the one switched to."""
        name = self._model or os.environ.get("JUJU_MODEL", "").rpartition(":")[2] or current_model()
        if not name:
            raise Refused(
                "No selected model.\n\nUse \"juju switch\" to select a model, or add one with "
                '"juju add-model".'
            )
        return name.removeprefix("admin/")

    def read(self, view: str, **query: Any) -> Any:
        """Return a view of the model."""
        given = {key: value for key, value in query.items() if value not in (None, "", False)}
        return controller.request(self.record, "GET", f"/models/{self.model}/{view}", **given)

    def act(self, verb: str, **body: Any) -> Any:
        """Do a verb to the model."""
        return controller.request(self.record, "POST", f"/models/{self.model}/{verb}", body)

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""
        return controller.request(self.record, "GET", "/models")

    def log_path(self) -> Path:
        """Return the file of the model's debug-log."""
        for model in self.models():
            if model["short-name"] == self.model:
                return controller.home() / "log" / f"{model['model-uuid']}.log"
        raise Refused(f"model sandbox:{self.model} not found")


def current_model() -> str:
    """Return the model switched to, empty when there is none."""
    path = controller.home() / "current-model"
    return path.read_text() if path.exists() else ""


def say(text: str) -> None:
    """Print progress, which goes to stderr."""
    print(text, file=sys.stderr, flush=True)


def show(value: Any, how: str | None, text: Callable[[], str] | None = None) -> None:
    """Print a value as JSON, as YAML, or as `text` makes it."""
    if how == "json":
        print(json.dumps(value, separators=(",", ":")))
    elif how == "yaml" or text is None:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False, default_flow_style=False), end="")
    else:
        print(text())


def table(rows: Sequence[Sequence[Any]], colour: bool = False) -> str:
    """Return rows as columns; a status word gets its colour where the reader is a terminal."""
    cells = [[str("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if colour:
            words = "|".join(COLOURS)
            line = re.sub(
                rf"(?<= )({words})(?= |$)", lambda m: f"\x1b[{COLOURS[m[1]]}m{m[1]}\x1b[0m", line
            )
        lines.append(line)
    return "\n".join(lines)


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Return `key=value` words as a mapping; `key=@file` reads a file."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f'expected "key=value", got "{word}"')
        found[key] = Path(value[1:]).read_text() if value.startswith("@") else value
    return found


def constraints_of(words: Sequence[str]) -> dict[str, str]:
    """Return constraints, each word one or several `key=value`; refused as Juju refuses them."""
    known = "allocate-public-ip arch container cores cpu-power image-id instance-role instance-type"
    known += " mem root-disk root-disk-source spaces tags virt-type zones"
    found = pairs([one for word in words for one in word.split()])
    for key, value in found.items():
        if key not in known.split():
            raise UsageError(f'unknown constraint "{key}"')
        if key == "mem" and not re.fullmatch(r"\d+(\.\d+)?[MGTP]?", value):
            need = "must be a non-negative float with optional M/G/T/P suffix"
            raise UsageError(f'bad "mem" constraint: {need}')
    return found


def seconds(text: str) -> float:
    """Return a Go duration ("90s", "1h30m") in seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise UsageError(f'invalid duration "{text}"')
    return sum(float(number) * units[unit] for number, unit in parts)


# --- models -----------------------------------------------------------------------------------


def add_model(session: Session, a: Arguments) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", a.name):
        allowed = "model names may only contain lowercase letters, digits and hyphens"
        raise UsageError(f'"{a.name}" is not a valid name: {allowed}')
    body = {"name": a.name, "settings": pairs(a.config)}
    controller.request(session.record, "POST", "/models", body)
    if not a.no_switch:
        controller.write(controller.home() / "current-model", a.name.encode())
    say(f"Added '{a.name}' model on sandbox with credential 'sandbox' for user 'admin'")


def models(session: Session, a: Arguments) -> None:
    found, current = session.models(), current_model()
    keys = ("users", "secret-backends", "credential")
    listed = [
        {k: v for k, v in model.items() if k not in keys}
        | {"access": "admin", "last-connection": "just now"}
        for model in found
    ]
    rows = [["Model", "Cloud/Region", "Type", "Status", "Units", "Access"]]
    for m in found:
        mark = "*" if m["short-name"] == current else ""
        rows.append(
            [m["short-name"] + mark, m["cloud"], "kubernetes", m["status"]["current"], m["units"], "admin"]
        )
    show(
        {"models": listed, "current-model": current},
        a.format,
        lambda: f"Controller: sandbox\n\n{table(rows)}",
    )


def show_model(session: Session, a: Arguments) -> None:
    session._model = (a.name or session.model).removeprefix("admin/")
    for model in session.models():
        if model["short-name"] == session.model:
            show({session.model: model}, a.format)
            return
    raise Refused(f"model sandbox:{session.model} not found")


def switch(session: Session, a: Arguments) -> None:
    if not a.name:
        print(f"sandbox:admin/{session.model}")
        return
    name = a.name.rpartition(":")[2].removeprefix("admin/")
    if name not in [model["short-name"] for model in session.models()]:
        raise Refused(
            f'cannot determine if "{a.name}" is a valid model: '
            f'"sandbox:{a.name}" is not the name of a model or controller'
        )
    controller.write(controller.home() / "current-model", name.encode())
    say(f"sandbox:admin/{current_model()}")


def destroy_model(session: Session, a: Arguments) -> None:
    session._model = a.name.rpartition(":")[2].removeprefix("admin/")
    confirm(a, f"This destroys the model {session.model} and all its applications")
    session.act(
        "destroy",
        destroy_storage=a.destroy_storage,
        release_storage=a.release_storage,
        force=a.force,
    )
    end = time.monotonic() + (seconds(a.timeout) if a.timeout else float("inf"))
    left = -1
    while True:
        found = [m for m in session.models() if m["short-name"] == session.model]
        if not found:
            break
        if found[0]["units"] != left:
            left = found[0]["units"]
            say(f"Waiting for model to be removed, {left} unit(s)...")
        if time.monotonic() > end:
            raise Refused(f"timeout waiting for model {session.model} to be removed")
        time.sleep(0.2)
    if current_model() == session.model:
        (controller.home() / "current-model").unlink()
    say("Model destroyed.")


def confirm(a: Arguments, what: str) -> None:
    """Ask before something is lost, where a person can answer."""
    if a.no_prompt or not sys.stdin.isatty():
        return
    if input(f"{what}. Continue [y/N]? ").lower() not in ("y", "yes"):
        raise Refused("aborted")


def model_config(session: Session, a: Arguments) -> None:
    given = [word for word in a.words if "=" in word]
    if given or a.reset:
        reset = [key for word in a.reset for key in word.split(",")]
        session.act("configure-model", values=pairs(given), reset=reset)
        return
    values = session.read("model-config")
    if a.words:
        if a.words[0] not in values:
            raise Refused(f'key "{a.words[0]}" not found in "{session.model}" model.')
        print(values[a.words[0]]["Value"])
        return
    rows = [["Attribute", "From", "Value"]]
    rows += [[name, value["Source"], value["Value"]] for name, value in values.items()]
    show(values, a.format, lambda: table(rows))


def set_model_constraints(session: Session, a: Arguments) -> None:
    session.act("constrain-model", constraints=constraints_of(a.constraints))


def constraints(session: Session, a: Arguments) -> None:
    found = session.read("constraints", application=getattr(a, "application", ""))
    show(found, a.format, lambda: " ".join(f"{key}={value}" for key, value in found.items()))


def version(_: None, a: Arguments) -> None:
    number = "4.0.14-genericlinux-amd64"
    about = {"version": number, "git-tree-state": "clean", "compiler": "gc", "official": False}
    show(about if a.all else number, a.format, lambda: number)


def whoami(session: Session, a: Arguments) -> None:
    about = {"controller": "sandbox", "model": session.model, "user": "admin"}
    show(about, a.format)


# --- applications -----------------------------------------------------------------------------


def deploy(session: Session, a: Arguments) -> None:
    path = Path(a.charm)
    if a.to:
        raise Refused("--to cannot be used on k8s models")
    if path.suffix in (".yaml", ".yml") or (path / "bundle.yaml").is_file():
        deploy_bundle(session, a, path / "bundle.yaml" if path.is_dir() else path)
        return
    made = session.act(
        "deploy",
        charm=pack(path),
        name=a.application or "",
        scale=a.num_units,
        config=configuration(a.config),
        constraints=constraints_of(a.constraints),
        resources=resources_of(a.resource),
        storage=pairs(a.storage),
        trust=a.trust,
        attach=[id for word in a.attach_storage for id in word.split(",")],
    )
    what = f'local charm "{made["charm"]}", revision {made["revision"]}'
    say(f"Located {what}\nDeploying \"{made['application']}\" from {what} on ubuntu@24.04/stable")


def pack(path: Path) -> str:
    """Return the packed charm for a path: a packed one as it is, a source folder packed."""
    from sandbox import archive

    if not path.exists():
        raise Refused(f'no charm was found at "{path}"')
    try:
        return str(archive.packed(path, say))
    except archive.ArchiveError as error:
        raise Refused(str(error)) from None


def configuration(words: Sequence[str]) -> dict[str, str]:
    """Return config of `key=value` words and YAML files."""
    found: dict[str, Any] = {}
    for word in words:
        if "=" in word:
            found |= pairs([word])
        else:
            import yaml

            content = yaml.safe_load(Path(word).read_text()) or {}
            found |= next(iter(content.values())) if _nested(content) else content
    return found


def _nested(content: dict[str, Any]) -> bool:
    return len(content) == 1 and isinstance(next(iter(content.values())), dict)


def resources_of(words: Sequence[str]) -> dict[str, str]:
    """Return resources; one that names a file of this machine is an absolute path."""
    found = pairs([word.replace("=@", "=") for word in words])
    return {
        name: str(Path(value).resolve()) if Path(value).is_file() else value
        for name, value in found.items()
    }


def refresh(session: Session, a: Arguments) -> None:
    if not a.path and not a.resource:
        raise Refused("the sandbox has no Charmhub: name a charm with --path")
    revision = session.act(
        "refresh",
        name=a.application,
        charm=pack(Path(a.path)) if a.path else "",
        resources=resources_of(a.resource),
        config=configuration(a.config),
        trust=a.trust,
    )
    say(f'Added local charm revision {revision} to "{a.application}"')


def attach_resource(session: Session, a: Arguments) -> None:
    ((resource, value),) = resources_of([a.resource]).items()
    session.act("attach-resource", name=a.application, resource=resource, value=value)


def config(session: Session, a: Arguments) -> None:
    given = configuration([w for w in a.words if "=" in w] + ([a.file] if a.file else []))
    asked = [word for word in a.words if "=" not in word]
    try:
        if given or a.reset:
            if a.reset:
                options = [key for word in a.reset for key in word.split(",")]
                session.act("reset-config", name=a.application, options=options)
            if given:
                session.act("set-config", name=a.application, values=given)
            return
        values = session.read("config", application=a.application)
    except Refused:
        print("{}")
        raise
    if not asked:
        show(values, a.format or "yaml")
        return
    merged = values["application-config"] | values["settings"]
    if asked[0] not in merged:
        print("{}")
        known = f'"{a.application}" application config or charm settings'
        raise Refused(f'key "{asked[0]}" not found in {known}.')
    value = merged[asked[0]].get("value")
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    show(value, a.format if a.format == "json" else "text", lambda: text)


def trust(session: Session, a: Arguments) -> None:
    if a.scope != "cluster":
        raise Refused(
            "'juju trust' currently grants full access to the cluster itself.\n"
            "Set the scope to 'cluster' using '--scope=cluster' to confirm this choice.\n"
        )
    session.act("trust", name=a.application, trust=not a.remove)


def add_unit(session: Session, a: Arguments) -> None:
    session.act("add-unit", name=a.application, number=a.num_units)


def remove_unit(session: Session, a: Arguments) -> None:
    if any("/" in name for name in a.applications):
        raise UsageError(
            "k8s models do not support removing named units.\n"
            "Instead specify an application with --num-units.\n"
        )
    for name in a.applications:
        session.act("remove-unit", name=name, number=a.num_units)


def scale_application(session: Session, a: Arguments) -> None:
    session.act("scale", name=a.application, scale=a.scale)
    say(f"{a.application} scaled to {a.scale} units")


def remove_application(session: Session, a: Arguments) -> None:
    confirm(a, f"This removes {', '.join(a.applications)}")
    for name in a.applications:
        session.act(
            "remove-application", name=name, destroy_storage=a.destroy_storage, force=a.force
        )
        say(f"will remove application {name}")


def integrate(session: Session, a: Arguments) -> None:
    session.act("integrate", one=a.one, other=a.other)


def remove_relation(session: Session, a: Arguments) -> None:
    session.act("remove-relation", one=a.one, other=a.other, force=a.force)


def resolved(session: Session, a: Arguments) -> None:
    for unit in a.units:
        session.act("resolved", unit=unit, retry=not a.no_retry)


def set_constraints(session: Session, a: Arguments) -> None:
    session.act(
        "set-constraints", name=a.application, constraints=constraints_of(a.constraints)
    )


def expose(session: Session, a: Arguments) -> None:
    session.act("expose", name=a.application, exposed=a.verb == "expose")


def remove_storage(session: Session, a: Arguments) -> None:
    for id in a.storage:
        session.act("remove-storage", id=id)


def deploy_bundle(session: Session, a: Arguments, path: Path) -> None:
    """Deploy a bundle with its overlays, step by step, saying each as Juju does."""
    from sandbox import bundle

    raise Refused(f"{path}: bundles come with sandbox/bundle.py ({bundle})")


# --- what is there ----------------------------------------------------------------------------


def status(session: Session, a: Arguments) -> None:
    while True:
        found = session.read("status", applications=",".join(a.names))
        if a.format != "tabular":
            show(found, a.format)
        else:
            text = status_text(found, a.relations, sys.stdout.isatty() and not a.no_color)
            clear = "\x1b[H\x1b[2J" if a.watch and sys.stdout.isatty() else ""
            print(clear + text, flush=True)
            if a.names and not found["applications"]:
                say("Nothing matched specified filter.")
        if not a.watch:
            return
        time.sleep(seconds(a.watch))


def status_text(found: dict[str, Any], relations: bool, colour: bool) -> str:
    """Return `juju status` as its tables."""
    model, parts = found["model"], []
    top = [model["name"], model["controller"], model["cloud"], model["version"]]
    rows = [["Model", "Controller", "Cloud/Region", "Version", "Timestamp"]]
    parts.append(table([*rows, [*top, found["controller"]["timestamp"]]]))
    apps = found["applications"]
    if apps:
        rows = [
            ["App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Address", "Exposed", "Message"]
        ]
        for name, app in apps.items():
            units = app.get("units", {})
            up = sum(u["juju-status"]["current"] in ("idle", "executing") for u in units.values())
            scale = app["scale"] if up == app["scale"] else f"{up}/{app['scale']}"
            state = app["application-status"]
            rows.append(
                [name, app.get("version", ""), state["current"], scale, app["charm-name"], "",
                 app["charm-rev"], app.get("address", ""), "yes" if app["exposed"] else "no",
                 state.get("message", "")]
            )  # fmt: skip
        parts.append(table(rows, colour))
    rows = [["Unit", "Workload", "Agent", "Address", "Ports", "Message"]]
    for app in apps.values():
        for name, unit in app.get("units", {}).items():
            work, agent = unit["workload-status"], unit["juju-status"]
            doing = re.sub(r"^running (action )?| hook$", "", agent.get("message", ""))
            doing = f"({doing}) " if agent["current"] == "executing" and doing else ""
            rows.append(
                [name + ("*" if unit.get("leader") else ""), work["current"], agent["current"],
                 unit.get("address", ""), ",".join(unit.get("open-ports", [])),
                 doing + work.get("message", "")]
            )  # fmt: skip
    if len(rows) > 1:
        parts.append(table(rows, colour))
    if relations and (listed := relation_rows(apps)):
        head = ["Integration provider", "Requirer", "Interface", "Type", "Message"]
        parts.append(table([head, *listed]))
    return "\n\n".join(parts)


def relation_rows(apps: dict[str, Any]) -> list[list[str]]:
    """Return a row for each relation; the two sides' endpoints are paired by interface."""
    rows = set()
    for name, app in apps.items():
        for endpoint, ends in app.get("relations", {}).items():
            for end in ends:
                other = end["related-application"]
                if other == name:
                    side = f"{name}:{endpoint}"
                    rows.add((side, side, end["interface"], "peer"))
                    continue
                for there, backs in apps.get(other, {}).get("relations", {}).items():
                    for back in backs:
                        same = back["interface"] == end["interface"]
                        if back["related-application"] == name and same:
                            first, second = sorted(((name, endpoint), (other, there)))
                            rows.add(
                                (f"{first[0]}:{first[1]}", f"{second[0]}:{second[1]}",
                                 end["interface"], "regular")
                            )  # fmt: skip
    return [[*row, ""] for row in sorted(rows)]


def show_unit(session: Session, a: Arguments) -> None:
    found: dict[str, Any] = {}
    for unit in a.units:
        found |= session.read("show-unit", unit=unit)
    show(found, a.format)


def show_application(session: Session, a: Arguments) -> None:
    show(session.read("show-application", application=a.application), a.format)


def storage(session: Session, a: Arguments) -> None:
    found = session.read("storage")
    rows = [["Unit", "Storage ID", "Type", "Pool", "Size", "Status", "Message"]]
    for id, about in found["storage"].items():
        volume = found["filesystems"][id.rpartition("/")[2]]
        unit = next(iter(about.get("attachments", {}).get("units", {})), "")
        size, state = f"{volume['size']} MiB", about["status"]["current"]
        rows.append([unit, id, about["kind"], volume["pool"], size, state, ""])
    empty = not found["storage"]
    show({} if empty else found, a.format, lambda: "No storage to display." if empty else table(rows))


def resources(session: Session, a: Arguments) -> None:
    found = session.read("resources", application=a.application)
    rows = [["Resource", "Type", "Value"]]
    rows += [[r["name"], r["type"], r["value"]] for r in found["resources"]]
    show(found, a.format, lambda: table(rows))


def actions(session: Session, a: Arguments) -> None:
    found = session.read("actions", application=a.application, schema=a.schema)
    rows = [["Action", "Description"], *([name, about] for name, about in found.items())]
    show(found, a.format, None if a.schema else lambda: table(rows))


def status_log(session: Session, a: Arguments) -> None:
    found = session.read("status-log", unit=a.unit, limit=a.limit)
    rows = [["Time", "Type", "Status", "Message"]]
    for line in found:
        when = datetime.datetime.fromisoformat(line["since"]).strftime("%d %b %Y %H:%M:%SZ")
        rows.append([when, line["type"], line["status"], line.get("message", "")])
    show(found, a.format, lambda: table(rows))


def debug_log(session: Session, a: Arguments) -> None:
    path = session.log_path()
    follow = a.tail or (not a.no_tail and not a.replay and not a.limit and sys.stdout.isatty())
    levels = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]
    least = levels.index(a.level.upper()) if a.level else 0

    def wanted(line: dict[str, Any]) -> bool:
        entity = line["entity"]
        tag = f"unit-{entity.replace('/', '-')}"
        names = (entity, tag, entity.partition("/")[0])
        excluded = any(name in names for name in a.exclude)
        included = not a.include or any(name in names for name in a.include)
        module = not a.include_module or any(line["module"].startswith(m) for m in a.include_module)
        known = levels.index(line["level"]) if line["level"] in levels else 2
        return included and not excluded and module and known >= least

    def tell(line: dict[str, Any]) -> None:
        when = datetime.datetime.fromtimestamp(line["at"], datetime.UTC)
        tag = f"unit-{line['entity'].replace('/', '-')}"
        if a.format == "json":
            about = {"timestamp": when.isoformat(), "entity": tag, "level": line["level"]}
            print(json.dumps({**about, "module": line["module"], "message": line["message"]}))
        else:
            print(f"{tag}: {when:%H:%M:%S} {line['level']} {line['module']} {line['message']}")

    old = path.with_name(f"{path.name}.1")
    lines = old.read_text().splitlines() if old.exists() else []
    with path.open() as file:
        lines += file.read().splitlines()
        found = [line for line in map(json.loads, lines) if wanted(line)]
        last = 10 if a.limit is None and not a.replay else a.limit or 0
        for line in found[-last:]:
            tell(line)
        while follow:
            sys.stdout.flush()
            for text in file:
                if wanted(line := json.loads(text)):
                    tell(line)
            time.sleep(0.2)


# --- actions and commands ---------------------------------------------------------------------


def run(session: Session, a: Arguments) -> int:
    import yaml

    params: dict[str, Any] = {}
    if a.params:
        params |= yaml.safe_load(Path(a.params).read_text()) or {}
    units = [word for word in a.words if re.fullmatch(r"[a-z][a-z0-9-]*/(\d+|leader)", word)]
    rest = a.words[len(units) :]
    if not units or not rest:
        raise UsageError("no action specified" if units else "no unit specified")
    for word in rest[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f'argument "{word}" must be of the form key.key.key...=value')
        place = params
        *path, last = key.split(".")
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value if a.string_args else yaml.safe_load(value)
    tasks = []
    for unit in units:
        try:
            tasks.append(session.act("run", unit=unit, action=rest[0], params=params))
        except Refused as error:
            if "not defined" in str(error):
                print("{}")
                raise
            if str(error).startswith("unit "):
                say(f"\nOperation failed to schedule any tasks:\nlinking task to unit: {error}")
                return 0
            raise
    first = task_of(session, tasks[0], 0)
    if a.background:
        say(f"Scheduled operation {first['operation']} with task {tasks[0]}")
        say(f"Check operation status with 'juju show-operation {first['operation']}'")
        say(f"Check task status with 'juju show-task {tasks[0]}'")
        return 0
    plural = "" if len(tasks) == 1 else "s"
    say(f"Running operation {first['operation']} with {len(tasks)} task{plural}")
    for task, unit in zip(tasks, units, strict=True):
        say(f"  - task {task} on unit-{unit.replace('/', '-')}")
    say("")
    return conclude(session, a, tasks, text=action_text)


def execute(session: Session, a: Arguments) -> int:
    if a.all or a.machine:
        raise Refused("cannot run on all machines with a caas model")
    words = a.command[1:] if a.command[:1] == ["--"] else a.command
    if not words:
        raise UsageError("no commands specified")
    command = words[0] if len(words) == 1 else shlex.join(words)
    units = [unit for word in a.unit for unit in word.split(",")]
    for name in [name for word in a.application for name in word.split(",")]:
        units += session.read("status", applications=name)["applications"][name].get("units", {})
    wait = seconds(a.wait) if a.wait else 300.0
    tasks = [session.act("exec", unit=unit, command=command, timeout=wait) for unit in units]
    return conclude(session, a, tasks, text=exec_text)


def task_of(session: Session, task: str, known: int, wait: float = 0) -> dict[str, Any]:
    """Return a task, once it has ended or logged more than `known` lines, or after some seconds."""
    path = f"/models/{session.model}/tasks/{task}"
    return controller.request(session.record, "GET", path, known=known, wait=wait)


def conclude(
    session: Session, a: Arguments, tasks: Sequence[str], text: Callable[[dict[str, Any]], str]
) -> int:
    """Wait for tasks, telling what actions log, print what came of them; return the exit code."""
    end = time.monotonic() + (seconds(a.wait) if a.wait else 3600.0)
    done: dict[str, dict[str, Any]] = {}
    for task in tasks:
        if a.verb == "run":
            say(f"Waiting for task {task}...")
        known = 0
        while True:
            left = end - time.monotonic()
            found = task_of(session, task, known, max(min(left, 30.0), 0.0))
            log = found["task"].get("log", [])
            for line in log[known:]:
                day, clock, _, _, *said = line.split(" ")
                say(f"{clock[:8]} {' '.join(said)}")
            if log:
                known = len(log)
            if found["ended"]:
                done[found["task"]["unit"]] = found["task"]
                break
            if left <= 0:
                if a.verb == "run":
                    print("{}")
                raise Refused(f"timed out waiting for results from: unit {found['task']['unit']}")
        if a.verb == "run" and log:
            say("")
    if a.format in ("json", "yaml"):
        show(done, a.format)
    else:
        for about in done.values():
            print(text(about), end="")
    codes = {t["id"]: t.get("results", {}).get("return-code", 0) for t in done.values()}
    failed = {id: code for id, code in codes.items() if code}
    if failed:
        which = "the following task" + ("s" if len(failed) > 1 else "")
        listed = "\n".join(f' - id "{id}" with return code {code}' for id, code in failed.items())
        say(f"ERROR {which} failed:\n{listed}\n\nuse 'juju show-task' to inspect the failure\n")
    return 1 if failed else 0


def action_text(task: dict[str, Any]) -> str:
    """Return what `juju run` prints of a task."""
    import yaml

    results = dict(task.get("results", {}))
    printed = results.pop("stdout", "") + results.pop("stderr", "")
    results.pop("return-code", None)
    head = ""
    if task["status"] not in ("completed", "cancelled"):
        head = f"Action id {task['id']} failed: {task.get('message', '')}\n"
    shown = yaml.safe_dump(results, default_flow_style=False) if results else ""
    return f"{head}{printed}{shown}\n" if shown or printed else head


def exec_text(task: dict[str, Any]) -> str:
    """Return what `juju exec` prints of a task."""
    results = task.get("results", {})
    return results.get("stdout", "") + results.get("stderr", "")


def show_task(session: Session, a: Arguments) -> None:
    show(task_of(session, a.task, 0)["task"], a.format)


def cancel_task(session: Session, a: Arguments) -> None:
    session.act("cancel", task=a.task)


def kubectl(session: Session, *words: str) -> list[str]:
    """Return a kubectl command about the model's namespace."""
    about = ["--kubeconfig", session.record.kubeconfig, "--namespace", session.model]
    return [session.record.kubectl, *about, *words]


def pod_of(session: Session, target: str, container: str) -> str:
    """Return the pod of a unit, also of `app/leader`; refuse a container that it has not."""
    unit = target.rpartition("@")[2]
    if unit.endswith("/leader"):
        name = unit.partition("/")[0]
        units = session.read("status", applications=name)["applications"][name].get("units", {})
        unit = next((u for u, about in units.items() if about.get("leader")), unit)
    try:
        session.read("show-unit", unit=unit)
    except Refused:
        raise Refused(f'getting unit "{unit}": unit {unit} not found') from None
    listed = ["get", "pod", unit.replace("/", "-"), "-o", "jsonpath={.spec.containers[*].name}"]
    done = subprocess.run(kubectl(session, *listed), capture_output=True, text=True)
    if done.returncode:
        raise Refused(f'unit "{unit}" has no pod: {done.stderr.strip()}')
    names = done.stdout.split()
    if container not in names:
        raise Refused(f'container "{container}" must be one of {", ".join(names)}')
    return unit.replace("/", "-")


def ssh(session: Session, a: Arguments) -> int:
    pod = pod_of(session, a.target, a.container)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    how = ["exec", "-i", *(["-t"] if terminal else []), pod, "-c", a.container, "--"]
    words = a.command[1:] if a.command[:1] == ["--"] else a.command
    shell = ["sh", "-c", " ".join(words)] if words else ["sh", "-c", "exec bash || exec sh"]
    if terminal:
        return 1 if subprocess.run(kubectl(session, *how, *shell)).returncode else 0
    done = subprocess.run(kubectl(session, *how, *shell), stderr=subprocess.PIPE, text=True)
    *said, last = done.stderr.splitlines() or [""]
    if done.returncode:
        sys.stderr.write("".join(f"{line}\n" for line in said))
        raise Refused(last or f"command terminated with exit code {done.returncode}")
    sys.stderr.write(done.stderr)
    return 0


def scp(session: Session, a: Arguments) -> None:
    paths = [word for word in a.paths if word != "--" and not word.startswith("-")]
    if len(paths) < 2:
        raise UsageError("at least two arguments required")

    def place(word: str) -> str:
        target, colon, path = word.partition(":")
        if not colon or "/" not in target:
            return word
        return f"{pod_of(session, target, a.container)}:{path}"

    for source in paths[:-1]:
        copy = ["cp", "-c", a.container, place(source), place(paths[-1])]
        done = subprocess.run(kubectl(session, *copy), capture_output=True, text=True)
        if done.returncode:
            raise Refused(done.stderr.strip() or "cannot copy")


# --- secrets ----------------------------------------------------------------------------------


def secret_content(a: Arguments) -> dict[str, str]:
    """Return a secret's content from `key=value` words and from a YAML file."""
    content = pairs(a.words)
    if a.file:
        import yaml

        content |= {k: str(v) for k, v in (yaml.safe_load(Path(a.file).read_text()) or {}).items()}
    for key, value in list(content.items()):
        if key.endswith("#file"):
            content[key.removesuffix("#file")] = Path(value).read_text()
            del content[key]
    for key in content:
        if not re.fullmatch(r"[a-z][a-z0-9-]+[a-z0-9]", key):
            raise UsageError(f'key "{key}" not valid')
    return content


def add_secret(session: Session, a: Arguments) -> None:
    content = secret_content(a)
    if not content:
        raise UsageError("missing secret value or filename")
    print(session.act("add-secret", name=a.name, content=content, description=a.info))


def update_secret(session: Session, a: Arguments) -> None:
    content = secret_content(a) or None
    session.act("update-secret", name=a.name, content=content, description=a.info or None)


def grant_secret(session: Session, a: Arguments) -> None:
    session.act(a.verb, name=a.name, applications=a.applications.split(","))


def remove_secret(session: Session, a: Arguments) -> None:
    session.act("remove-secret", name=a.name, revision=a.revision)


def secrets(session: Session, a: Arguments) -> None:
    found = session.read("secrets", owner=a.owner)
    rows = [["ID", "Name", "Owner", "Rotation", "Revision", "Last updated"]]
    for id, about in found.items():
        name = about.get("name") or about.get("label") or "-"
        kept = [about["owner"], about["rotation"], about["revision"], about["updated"]]
        rows.append([id, name, *kept])
    show(found, a.format, lambda: table(rows) if found else "ID  Name  Owner  Rotation  Revision")


def show_secret(session: Session, a: Arguments) -> None:
    if a.revisions and (a.reveal or a.revision):
        raise UsageError("specify either --revisions or --revision/--reveal, not both")
    found = session.read(
        "show-secret", name=a.name, reveal=a.reveal, revisions=a.revisions, revision=a.revision
    )
    if a.format != "json":
        for about in found.values():
            if "content" in about:
                about["content"] = about["content"]["Data"]
    show(found, a.format)


# --- the command line -------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser whose refusals read like Juju's."""

    def error(self, message: str) -> NoReturn:
        print(f"ERROR {message}", file=sys.stderr)
        raise SystemExit(2)


def parser() -> Parser:
    """Return the parser of every verb."""
    top = Parser(prog="juju", description=__doc__, allow_abbrev=False)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        names: str, do: Callable[..., Any], about: str, *arguments: str, format: str = "", **more: Any
    ) -> Parser:
        first, *others = names.split()
        made = verbs.add_parser(first, aliases=others, help=about, allow_abbrev=False)
        made.set_defaults(do=do)
        made.add_argument("-m", "--model", help="the model to operate in")
        if format:
            made.add_argument("--format", default=format, choices=["tabular", "json", "yaml", "smart", "plain"])
        for argument in arguments:
            name, _, kind = argument.partition(":")
            option = {"flag": {"action": "store_true"}, "list": {"action": "append", "default": []}}
            count = {"?": {"nargs": "?"}, "*": {"nargs": "*", "default": []}, "+": {"nargs": "+"}}
            rest = {"...": {"nargs": argparse.REMAINDER}, "int": {"type": int}}
            settings: dict[str, Any] = {**option, **count, **rest}.get(kind, {})
            made.add_argument(*name.split("|"), **settings)
        made.set_defaults(**more)
        return made

    prompt = "--no-prompt|-y:flag"
    verb("add-model", add_model, "add a model", "name", "cloud:?", "--no-switch:flag",
         "--config:list", "--controller|-c", "--credential", "--owner")
    verb("models list-models", models, "list the models", "--all:flag", format="tabular")
    verb("show-model", show_model, "show a model", "name:?", format="yaml")
    verb("switch", switch, "select a model", "name:?")
    verb("destroy-model", destroy_model, "destroy a model", "name", prompt, "--destroy-storage:flag",
         "--release-storage:flag", "--force:flag", "--no-wait:flag", "--timeout|-t")
    verb("model-config", model_config, "show or set a model's options", "words:*", "--reset:list", format="tabular")
    verb("model-constraints", constraints, "show a model's constraints", format="tabular")
    verb("set-model-constraints", set_model_constraints, "set a model's constraints", "constraints:*")
    verb("version", version, "show the version", "--all:flag", format="tabular")
    verb("whoami", whoami, "show user, controller and model", format="yaml")

    deployed = ("--channel", "--revision", "--base", "--bind", "--force:flag", "--trust:flag",
                "--config:list", "--resource:list", "--storage:list")
    verb("deploy", deploy, "deploy a charm or a bundle", "charm", "application:?", *deployed,
         "--num-units|-n:int", "--constraints:list", "--overlay:list", "--to", "--dry-run:flag",
         "--attach-storage:list", num_units=1)
    verb("refresh upgrade-charm", refresh, "give an application another charm", "application", *deployed,
         "--path", "--force-units:flag", "--force-base:flag", "--switch")
    verb("attach-resource", attach_resource, "give an application another image or file",
         "application", "resource")
    verb("config", config, "show or set an application's options", "application", "words:*",
         "--reset:list", "--file", format="yaml")
    verb("trust", trust, "let an application into the cluster", "application", "--remove:flag", "--scope")
    verb("add-unit", add_unit, "add units", "application", "--num-units|-n:int", "--to",
         "--attach-storage:list", num_units=1)
    verb("remove-unit", remove_unit, "remove units", "applications:+", "--num-units:int", prompt,
         "--destroy-storage:flag", "--force:flag", "--no-wait:flag", num_units=1)
    verb("scale-application", scale_application, "set the number of units", "application", "scale:int")
    verb("remove-application", remove_application, "remove applications", "applications:+", prompt,
         "--destroy-storage:flag", "--force:flag", "--no-wait:flag")
    verb("integrate relate", integrate, "relate two applications", "one", "other", "--via")
    verb("remove-relation", remove_relation, "end a relation", "one", "other", "--force:flag")
    verb("resolved resolve", resolved, "run a failed hook again", "units:+", "--no-retry:flag")
    verb("constraints", constraints, "show an application's constraints", "application", format="tabular")
    verb("set-constraints", set_constraints, "set an application's constraints", "application", "constraints:*")
    verb("expose", expose, "note that an application is exposed", "application")
    verb("unexpose", expose, "note that an application is not exposed", "application")

    verb("status", status, "show what is there", "names:*", "--relations:flag", "--watch",
         "--storage:flag", "--color:flag", "--no-color:flag", "--utc:flag", format="tabular")
    verb("show-unit", show_unit, "show units", "units:+", format="yaml")
    verb("show-application", show_application, "show an application", "application", format="yaml")
    verb("storage list-storage", storage, "show storage", format="tabular")
    verb("remove-storage", remove_storage, "forget detached storage", "storage:+", "--no-destroy:flag")
    verb("resources", resources, "show an application's resources", "application", format="tabular")
    verb("actions list-actions", actions, "show an application's actions", "application", "--schema:flag",
         format="tabular")
    verb("show-status-log", status_log, "show a unit's past statuses", "unit", "-n|--limit:int",
         "--type", format="tabular", limit=20)
    verb("debug-log", debug_log, "show the model's log", "--limit|-n:int", "--replay:flag",
         "--tail:flag", "--no-tail|-T:flag", "--include|-i:list", "--exclude|-x:list",
         "--include-module:list", "--level|-l", format="plain")

    verb("run", run, "run an action", "words:+", "--wait", "--params", "--background:flag",
         "--string-args:flag", "--utc:flag", format="plain")
    verb("exec", execute, "run a command on units", "--unit|-u:list", "--application|--app|-a:list",
         "--machine:list", "--all:flag", "--wait", "command:...", format="plain")
    verb("show-task", show_task, "show a task", "task", format="yaml")
    verb("cancel-task", cancel_task, "take back a task", "task")
    verb("ssh", ssh, "run a command in a unit's pod", "--container", "--no-host-key-checks:flag",
         "target", "command:...", container="charm")
    verb("scp", scp, "copy files from or to a unit's pod", "--container", "--no-host-key-checks:flag",
         "paths:...", container="charm")

    verb("add-secret", add_secret, "add a secret", "name", "words:*", "--file", "--info", info="")
    verb("update-secret", update_secret, "change a secret", "name", "words:*", "--file", "--info", info="")
    verb("grant-secret", grant_secret, "let applications read a secret", "name", "applications")
    verb("revoke-secret", grant_secret, "stop applications from reading a secret", "name", "applications")
    verb("remove-secret", remove_secret, "remove a secret", "name", "--revision:int")
    verb("secrets list-secrets", secrets, "show secrets", "--owner", format="tabular")
    verb("show-secret", show_secret, "show a secret", "name", "--reveal:flag", "--revisions:flag",
         "--revision|-r:int", format="yaml")
    return top


def main() -> int:
    """Run one command; return its exit code."""
    arguments = parser().parse_args()
    try:
        session = None if arguments.do is version else Session(arguments)
        return arguments.do(session, arguments) or 0
    except UsageError as error:
        say(f"ERROR {error}")
        return 2
    except (Refused, OSError) as error:
        say(f"ERROR {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
