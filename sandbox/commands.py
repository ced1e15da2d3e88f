"""What each verb of `juju` does, says and returns on the sandbox.

A command costs little but Python's start: this imports little, and the controller does the work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import controller, tables
from sandbox.controller import ControllerError
from sandbox.tables import table

Arguments = argparse.Namespace
LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
CONSTRAINTS = re.compile(
    "allocate-public-ip|arch|container|cores|cpu-power|image-id|instance-role|instance-type|mem|"
    "root-disk|root-disk-source|spaces|tags|virt-type|zones"
)


class UsageError(Exception):
    """The command line is wrong in itself: exit code 2."""


class Session:
    """One run of the command line: the controller, and the model it is about."""

    def __init__(self, arguments: Arguments) -> None:
        self.record = controller.ensure(say)
        self.named = (getattr(arguments, "model", None) or "").rpartition(":")[2]

    @property
    def model(self) -> str:
        """Return the model's name: -m, else JUJU_MODEL, else the one switched to."""
        name = self.named or os.environ.get("JUJU_MODEL", "").rpartition(":")[2] or current_model()
        if not name:
            raise ControllerError(
                'No selected model.\n\nUse "juju switch" to select a model, or add one with '
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

    def description(self) -> dict[str, Any]:
        """Return what the controller says of the model itself."""
        for model in self.models():
            if model["short-name"] == self.model:
                return model
        raise ControllerError(f"model sandbox:{self.model} not found")


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
        print(tables.as_yaml(value), end="")
    else:
        print(text())


def confirm(a: Arguments, what: str) -> None:
    """Ask before something is lost, where a person can answer."""
    if not a.no_prompt and sys.stdin.isatty():
        answer = input(f"{what}. Continue [y/N]? ")
        if answer.lower() not in ("y", "yes"):
            raise ControllerError("aborted")


# --- what is written on a command line ----------------------------------------------------------


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Return `key=value` words as a mapping; `key=@file` reads a file."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f'expected "key=value", got "{word}"')
        found[key] = Path(value[1:]).read_text() if value.startswith("@") else value
    return found


def listed(words: Sequence[str]) -> list[str]:
    """Return words of which each may be several, with commas between."""
    return [one for word in words for one in word.split(",") if one]


def constraints_of(words: Sequence[str]) -> dict[str, str]:
    """Return constraints, each word one or several `key=value`; refused as Juju refuses them."""
    found = pairs([one for word in words for one in word.split()])
    for key, value in found.items():
        if not CONSTRAINTS.fullmatch(key):
            raise UsageError(f'unknown constraint "{key}"')
        if key == "mem" and not re.fullmatch(r"\d+(\.\d+)?[MGTP]?", value):
            need = "must be a non-negative float with optional M/G/T/P suffix"
            raise UsageError(f'bad "mem" constraint: {need}')
    return found


def options_of(words: Sequence[str]) -> dict[str, Any]:
    """Return config of `key=value` words and YAML files; a file may name its application."""
    found: dict[str, Any] = {}
    for word in words:
        content = pairs([word]) if "=" in word else from_yaml(word)
        inner = next(iter(content.values()), None)
        found |= inner if len(content) == 1 and isinstance(inner, dict) else content
    return found


def resources_of(words: Sequence[str]) -> dict[str, str]:
    """Return resources; a file of this machine is kept for the controller."""
    found = (word.replace("=@", "=").partition("=")[::2] for word in words)
    return {name: kept(it, Path()) for name, it in found}


def kept(value: str, folder: Path) -> str:
    """Return where the content of a file is kept for the controller, any other value as it is."""
    if not (folder / value).is_file():
        return value
    content = (folder / value).read_bytes()
    path = controller.home() / "resources" / hashlib.sha256(content).hexdigest()[:16]
    if not path.exists():
        controller.write(path, content)
    return str(path)


def from_yaml(path: str) -> dict[str, Any]:
    """Return what a YAML file holds."""
    import yaml

    return yaml.safe_load(Path(path).read_text()) or {}


def seconds(text: str) -> float:
    """Return a Go duration ("90s", "1h30m") in seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f'invalid duration "{text}"')
    return sum(float(number) * units[unit] for number, unit in parts)


# --- models -------------------------------------------------------------------------------------


def add_model(session: Session, a: Arguments) -> None:
    """Add a model."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", a.name):
        allowed = "model names may only contain lowercase letters, digits and hyphens"
        raise UsageError(f'"{a.name}" is not a valid name: {allowed}')
    body = {"name": a.name, "settings": pairs(a.config)}
    controller.request(session.record, "POST", "/models", body)
    if not a.no_switch:
        controller.write(controller.home() / "current-model", a.name.encode())
    say(f"Added '{a.name}' model on sandbox with credential 'sandbox' for user 'admin'")


def models(session: Session, a: Arguments) -> None:
    """List the models."""
    found, current = session.models(), current_model()
    left_out = ("users", "secret-backends", "credential", "units")
    seen = {"access": "admin", "last-connection": "just now"}
    shown = [{k: v for k, v in it.items() if k not in left_out} | seen for it in found]
    rows = [
        [f"{it['short-name']}{'*' * (it['short-name'] == current)}", it["cloud"], it["type"]]
        for it in found
    ]
    for row, it in zip(rows, found, strict=True):
        row += [it["status"]["current"], it["units"], "admin"]
    head = ["Model", "Cloud/Region", "Type", "Status", "Units", "Access"]
    text = f"Controller: sandbox\n\n{table([head, *rows])}"
    show({"models": shown, "current-model": current}, a.format, lambda: text)


def show_model(session: Session, a: Arguments) -> None:
    """Show a model."""
    session.named = a.name or session.named
    show({session.model: session.description()}, a.format)


def switch(session: Session, a: Arguments) -> None:
    """Select a model, or show which one is selected."""
    if a.name:
        name = a.name.rpartition(":")[2].removeprefix("admin/")
        if name not in [model["short-name"] for model in session.models()]:
            unknown = f'"sandbox:{a.name}" is not the name of a model or controller'
            raise ControllerError(f'cannot determine if "{a.name}" is a valid model: {unknown}')
        controller.write(controller.home() / "current-model", name.encode())
    print(f"sandbox:admin/{current_model() or session.model}")


def destroy_model(session: Session, a: Arguments) -> None:
    """Destroy a model."""
    session.named = a.name.rpartition(":")[2]
    confirm(a, f"This destroys the model {session.model} and all its applications")
    how = {"destroy_storage": a.destroy_storage, "release_storage": a.release_storage}
    session.act("destroy", **how, force=a.force)
    end = time.monotonic() + (seconds(a.timeout) if a.timeout else float("inf"))
    left = None
    while found := [it for it in session.models() if it["short-name"] == session.model]:
        if found[0]["units"] != left:
            left = found[0]["units"]
            say(f"Waiting for model to be removed, {left} unit(s)...")
        if time.monotonic() > end:
            raise ControllerError(f"timeout waiting for model {session.model} to be removed")
        time.sleep(0.2)
    if current_model() == session.model:
        (controller.home() / "current-model").unlink()
    say("Model destroyed.")


def model_config(session: Session, a: Arguments) -> None:
    """Show or set a model's options."""
    given = [word for word in a.words if "=" in word]
    if given or a.reset:
        session.act("configure-model", values=pairs(given), reset=listed(a.reset))
        return
    values = session.read("model-config")
    if a.words:
        if a.words[0] not in values:
            raise ControllerError(f'key "{a.words[0]}" not found in "{session.model}" model.')
        print(values[a.words[0]]["Value"])
        return
    rows = [[name, it["Source"], it["Value"]] for name, it in values.items()]
    show(values, a.format, lambda: table([["Attribute", "From", "Value"], *rows]))


def constraints(session: Session, a: Arguments) -> None:
    """Show the constraints of an application, or of the model."""
    found = session.read("constraints", application=getattr(a, "application", ""))
    show(found, a.format, lambda: " ".join(f"{key}={value}" for key, value in found.items()))


def set_constraints(session: Session, a: Arguments) -> None:
    """Set the constraints of an application, or of what the model deploys from now on."""
    given = constraints_of(a.constraints)
    if "application" in a:
        session.act("set-constraints", name=a.application, constraints=given)
    else:
        session.act("constrain-model", constraints=given)


def version(_: None, a: Arguments) -> None:
    """Show the version of Juju whose ways these are."""
    number = "4.0.14-genericlinux-amd64"
    about = {"version": number, "git-tree-state": "clean", "compiler": "gc", "official": False}
    show(about if a.all else number, a.format, lambda: number)


def whoami(session: Session, a: Arguments) -> None:
    """Show controller, model and user."""
    show({"controller": "sandbox", "model": session.model, "user": "admin"}, a.format)


# --- applications -------------------------------------------------------------------------------


def deploy(session: Session, a: Arguments) -> None:
    """Deploy a charm (packed, or its source folder) or a bundle."""
    path = Path(a.charm)
    if a.to:
        raise ControllerError("--to cannot be used on k8s models")
    if path.is_dir() and (path / "bundle.yaml").is_file():
        path = path / "bundle.yaml"
    if path.suffix in (".yaml", ".yml"):
        deploy_bundle(session, a, path)
        return
    made = session.act(
        "deploy",
        charm=pack(path),
        name=a.application or "",
        scale=a.num_units,
        config=options_of(a.config),
        constraints=constraints_of(a.constraints),
        resources=resources_of(a.resource),
        storage=pairs(a.storage),
        trust=a.trust,
        attach=listed(a.attach_storage),
    )
    what = f'local charm "{made["charm"]}", revision {made["revision"]}'
    say(f'Located {what}\nDeploying "{made["application"]}" from {what} on ubuntu@24.04/stable')


def pack(path: Path) -> str:
    """Return the packed charm for a path: a packed one as it is, a source folder packed."""
    from sandbox import archive

    if not path.exists():
        raise ControllerError(f'no charm was found at "{path}"')
    try:
        return str(archive.packed(path, say))
    except archive.ArchiveError as error:
        raise ControllerError(str(error)) from None


def deploy_bundle(session: Session, a: Arguments, path: Path) -> None:
    """Deploy a bundle with its overlays, step by step, saying each as Juju does."""
    from sandbox import bundle
    from sandbox.model import Model

    try:
        read, warnings = bundle.read_bundle(path, [Path(overlay) for overlay in a.overlay])
        for wanted in read.applications.values():
            for name, value in wanted.resources.items():
                wanted.resources[name] = kept(value, path.parent)
        for warning in warnings:
            say(f"WARNING {warning}")
        if (refusal := bundle.untrusted(read)) and not a.trust:
            raise ControllerError(refusal)
        model = Model.from_json(json.dumps(session.read("model")))
        steps = bundle.changes(read, model, pack)
    except bundle.BundleError as error:
        raise ControllerError(str(error)) from None
    if not steps:
        print("No changes to apply.")
        return
    print("Changes to deploy bundle:" if a.dry_run else "Executing changes:", flush=True)
    for step in steps:
        print(f"- {step.text}", flush=True)
        if a.dry_run:
            continue
        if step.verb:
            try:
                session.act(step.verb, **step.arguments)
            except ControllerError as error:
                raise ControllerError(f"{step.where}{error}") from None
        for note in step.notes:
            print(f"  {note}", flush=True)
    if not a.dry_run:
        print("Deploy of bundle completed.")


def refresh(session: Session, a: Arguments) -> None:
    """Give an application another charm or other resources."""
    if not a.path and not a.resource:
        raise ControllerError("the sandbox has no Charmhub: name a charm with --path")
    revision = session.act(
        "refresh",
        name=a.application,
        charm=pack(Path(a.path)) if a.path else "",
        resources=resources_of(a.resource),
        config=options_of(a.config),
        trust=a.trust,
    )
    say(f'Added local charm revision {revision} to "{a.application}"')


def attach_resource(session: Session, a: Arguments) -> None:
    """Give an application another image or file."""
    ((name, value),) = resources_of([a.resource]).items()
    session.act("attach-resource", name=a.application, resource=name, value=value)


def config(session: Session, a: Arguments) -> None:
    """Show or set an application's options."""
    given = options_of([*(word for word in a.words if "=" in word), *filter(None, [a.file])])
    asked = next((word for word in a.words if "=" not in word), None)
    try:
        if a.reset:
            session.act("reset-config", name=a.application, options=listed(a.reset))
        if given:
            session.act("set-config", name=a.application, values=given)
        if given or a.reset:
            return
        found = session.read("config", application=a.application)
        options = found["application-config"] | found["settings"]
        if asked and asked not in options:
            where = f'"{a.application}" application config or charm settings'
            raise ControllerError(f'key "{asked}" not found in {where}.')
    except ControllerError:
        print("{}")
        raise
    if not asked:
        show(found, a.format)
        return
    value = options[asked].get("value")
    shown = str(value).lower() if isinstance(value, bool) else str("" if value is None else value)
    show(value, "json" if a.format == "json" else "text", lambda: shown)


def trust(session: Session, a: Arguments) -> None:
    """Let an application into the cluster, or out again."""
    if a.scope != "cluster":
        raise ControllerError(
            "'juju trust' currently grants full access to the cluster itself.\n"
            "Set the scope to 'cluster' using '--scope=cluster' to confirm this choice.\n"
        )
    session.act("trust", name=a.application, trust=not a.remove)


def add_unit(session: Session, a: Arguments) -> None:
    """Add units to an application."""
    session.act("add-unit", name=a.application, number=a.num_units)


def remove_unit(session: Session, a: Arguments) -> None:
    """Take units from applications, the highest numbers first."""
    if any("/" in name for name in a.applications):
        raise UsageError(
            "k8s models do not support removing named units.\n"
            "Instead specify an application with --num-units.\n"
        )
    for name in a.applications:
        session.act("remove-unit", name=name, number=a.num_units)


def scale_application(session: Session, a: Arguments) -> None:
    """Set the number of an application's units."""
    session.act("scale", name=a.application, scale=a.scale)
    say(f"{a.application} scaled to {a.scale} units")


def remove_application(session: Session, a: Arguments) -> None:
    """Remove applications."""
    confirm(a, f"This removes {', '.join(a.applications)}")
    for name in a.applications:
        how = {"destroy_storage": a.destroy_storage, "force": a.force}
        session.act("remove-application", name=name, **how)
        say(f"will remove application {name}")


def integrate(session: Session, a: Arguments) -> None:
    """Relate two applications."""
    session.act("integrate", one=a.one, other=a.other)


def remove_relation(session: Session, a: Arguments) -> None:
    """End a relation."""
    session.act("remove-relation", one=a.one, other=a.other, force=a.force)


def resolved(session: Session, a: Arguments) -> None:
    """Run a failed hook again now, or skip it."""
    for unit in a.units:
        session.act("resolved", unit=unit, retry=not a.no_retry)


def expose(session: Session, a: Arguments) -> None:
    """Note that an application is exposed, or is not."""
    session.act("expose", name=a.application, exposed=a.verb == "expose")


def remove_storage(session: Session, a: Arguments) -> None:
    """Destroy detached storage."""
    for name in a.storage:
        session.act("remove-storage", id=name)


# --- what is there ------------------------------------------------------------------------------


def status(session: Session, a: Arguments) -> None:
    """Show applications, units and relations."""
    terminal = sys.stdout.isatty()
    while True:
        found = session.read("status", applications=",".join(a.names))
        related = session.read("relations") if a.relations and a.format == "tabular" else []
        colour = terminal and not a.no_color
        clear = "\x1b[H\x1b[2J" if a.watch and terminal else ""
        text = clear + tables.status(found, related, colour=colour)
        show(found, a.format, lambda text=text: text)
        if a.names and not found["applications"]:
            say("Nothing matched specified filter.")
        if not a.watch:
            return
        sys.stdout.flush()
        time.sleep(seconds(a.watch))


def show_unit(session: Session, a: Arguments) -> None:
    """Show units with their relations' data."""
    found: dict[str, Any] = {}
    for unit in a.units:
        found |= session.read("show-unit", unit=unit)
    show(found, a.format)


def show_application(session: Session, a: Arguments) -> None:
    """Show an application."""
    show(session.read("show-application", application=a.application), a.format)


def storage(session: Session, a: Arguments) -> None:
    """Show storage."""
    found = session.read("storage")
    rows = [["Unit", "Storage ID", "Type", "Pool", "Size", "Status"]]
    for name, about in found["storage"].items():
        volume = found["filesystems"][name.rpartition("/")[2]]
        unit = next(iter(about.get("attachments", {}).get("units", {})), "")
        place = [volume["pool"], f"{volume['size']} MiB", about["status"]["current"]]
        rows.append([unit, name, about["kind"], *place])
    empty = not found["storage"]
    text = "No storage to display." if empty else table(rows)
    show({} if empty else found, a.format, lambda: text)


def resources(session: Session, a: Arguments) -> None:
    """Show an application's resources."""
    found = session.read("resources", application=a.application)
    rows = [[it["name"], it["type"], it["value"]] for it in found["resources"]]
    show(found, a.format, lambda: table([["Resource", "Type", "Value"], *rows]))


def actions(session: Session, a: Arguments) -> None:
    """Show an application's actions."""
    found = session.read("actions", application=a.application, schema=a.schema)
    text = table([["Action", "Description"], *found.items()])
    show(found, a.format, None if a.schema else lambda: text)


def show_status_log(session: Session, a: Arguments) -> None:
    """Show a unit's past statuses."""
    found = session.read("status-log", unit=a.unit, limit=a.limit or 20)
    rows = [["Time", "Type", "Status", "Message"]]
    for line in found:
        when = f"{datetime.fromisoformat(line['since']):%d %b %Y %H:%M:%SZ}"
        rows.append([when, line["type"], line["status"], line.get("message", "")])
    show(found, a.format, lambda: table(rows))


def debug_log(session: Session, a: Arguments) -> None:
    """Show the model's log; on a terminal, go on showing it."""
    path = controller.home() / "log" / f"{session.description()['model-uuid']}.log"
    follow = a.tail or (sys.stdout.isatty() and not (a.no_tail or a.replay or a.limit))
    last = 10 if a.limit is None and not a.replay else a.limit or 0
    lines = [line for line in _lines(path, follow=False) if _included(line, a)]
    for line in lines[-last:]:
        print(_log_line(line, a.format))
    for line in _lines(path, follow=True) if follow else ():
        if _included(line, a):
            print(_log_line(line, a.format), flush=True)


def _lines(path: Path, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log and of the one before it; following, what comes from now on."""
    old = path.with_name(f"{path.name}.1")
    if old.exists() and not follow:
        yield from map(json.loads, old.read_text().splitlines())
    with path.open() as file:
        if follow:
            file.seek(0, os.SEEK_END)
        while True:
            yield from map(json.loads, file)
            if not follow:
                return
            time.sleep(0.2)


def _included(line: dict[str, Any], a: Arguments) -> bool:
    entity, level = line["entity"], line["level"]
    names = {entity, _tag(entity), entity.partition("/")[0]}
    least = LEVELS.index(a.level.upper()) if a.level else 0
    return (
        (not a.include or not names.isdisjoint(a.include))
        and names.isdisjoint(a.exclude)
        and (not a.include_module or line["module"].startswith(tuple(a.include_module)))
        and (LEVELS.index(level) if level in LEVELS else 2) >= least
    )


def _log_line(line: dict[str, Any], how: str) -> str:
    when = datetime.fromtimestamp(line["at"], UTC)
    rest = {key: line[key] for key in ("level", "module", "message")}
    if how == "json":
        return json.dumps({"timestamp": when.isoformat(), "entity": _tag(line["entity"]), **rest})
    return f"{_tag(line['entity'])}: {when:%H:%M:%S} {' '.join(rest.values())}"


def _tag(unit: str) -> str:
    return f"unit-{unit.replace('/', '-')}"


# --- actions and commands -----------------------------------------------------------------------


def run(session: Session, a: Arguments) -> int:
    """Run an action on units."""
    units = [word for word in a.words if re.fullmatch(r"[a-z][a-z0-9-]*/(\d+|leader)", word)]
    action, *given = a.words[len(units) :] or [""]
    if not units or not action:
        raise UsageError("no action specified" if units else "no unit specified")
    params = parameters(given, from_yaml(a.params) if a.params else {}, plain=a.string_args)
    try:
        tasks = [session.act("run", unit=unit, action=action, params=params) for unit in units]
    except ControllerError as error:
        if str(error).startswith("unit "):  # Juju calls this a success
            say(f"\nOperation failed to schedule any tasks:\nlinking task to unit: {error}")
            return 0
        if "(not found)" in str(error):
            print("{}")
        raise
    operation = task_of(session, tasks[0], 0)["operation"]
    if a.background:
        say(f"Scheduled operation {operation} with task {tasks[0]}")
        say(f"Check operation status with 'juju show-operation {operation}'")
        say(f"Check task status with 'juju show-task {tasks[0]}'")
        return 0
    say(f"Running operation {operation} with {len(tasks)} task{'s' * (len(tasks) > 1)}")
    for task, unit in zip(tasks, units, strict=True):
        say(f"  - task {task} on {_tag(unit)}")
    say("")
    return conclude(session, a, tasks, action_text)


def parameters(words: Sequence[str], params: dict[str, Any], *, plain: bool) -> dict[str, Any]:
    """Return parameters with `key.key=value` words put in; values are YAML unless plain."""
    import yaml

    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f'argument "{word}" must be of the form key.key.key...=value')
        place = params
        *path, last = key.split(".")
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value if plain else yaml.safe_load(value)
    return params


def execute(session: Session, a: Arguments) -> int:
    """Run a command on units."""
    if a.all or a.machine:
        raise ControllerError("cannot run on all machines with a caas model")
    words = a.command[a.command[:1] == ["--"] :]
    if not words:
        raise UsageError("no commands specified")
    command = words[0] if len(words) == 1 else shlex.join(words)
    units = listed(a.unit)
    for name in listed(a.application):
        units += session.read("status", applications=name)["applications"][name].get("units", {})
    wait = seconds(a.wait) if a.wait else 300.0
    tasks = [session.act("exec", unit=unit, command=command, timeout=wait) for unit in units]
    return conclude(session, a, tasks, exec_text)


def task_of(session: Session, task: str, known: int, wait: float = 0) -> dict[str, Any]:
    """Return a task once it has ended, or logged more than `known` lines, or some seconds on."""
    path = f"/models/{session.model}/tasks/{task}"
    return controller.request(session.record, "GET", path, known=known, wait=wait)


def conclude(
    session: Session, a: Arguments, tasks: Sequence[str], text: Callable[[dict[str, Any]], str]
) -> int:
    """Wait for tasks, telling what actions log; print what came of them; return the exit code."""
    end = time.monotonic() + (seconds(a.wait) if a.wait else 3600.0)
    action = a.verb == "run"
    done: list[dict[str, Any]] = []
    for task in tasks:
        if action:
            say(f"Waiting for task {task}...")
        found = {"ended": False, "task": {}}
        while not found["ended"]:
            left, known = end - time.monotonic(), found["task"].get("log", [])
            if left <= 0:
                print("{}" if action else "", end="\n" if action else "")
                unit = found["task"].get("unit", "")
                raise ControllerError(f"timed out waiting for results from: unit {unit}")
            found = task_of(session, task, len(known), min(left, 30.0))
            for line in found["task"].get("log", [])[len(known) :]:
                _, clock, _, _, said = line.split(" ", 4)
                say(f"{clock[:8]} {said}")
        done.append(found["task"])
        if "log" in found["task"]:
            say("")
    show(
        {task["unit"]: task for task in done},
        a.format if a.format in ("json", "yaml") else "text",
        lambda: "".join(map(text, done)).removesuffix("\n"),
    )
    codes = {task["id"]: task.get("results", {}).get("return-code", 0) for task in done}
    failed = [f' - id "{task}" with return code {code}' for task, code in codes.items() if code]
    if failed:
        which = "the following tasks" if len(failed) > 1 else "the following task"
        say("\n".join([f"ERROR {which} failed:", *failed, ""]))
        say("use 'juju show-task' to inspect the failure\n")
    return 1 if failed else 0


def action_text(task: dict[str, Any]) -> str:
    """Return what `juju run` prints of a task."""
    results = {k: v for k, v in task.get("results", {}).items() if k != "return-code"}
    printed = results.pop("stdout", "") + results.pop("stderr", "")
    shown = tables.as_yaml(dict(sorted(results.items()))) if results else ""
    ended = task["status"] in ("completed", "cancelled")
    head = "" if ended else f"Action id {task['id']} failed: {task.get('message', '')}\n"
    return f"{head}{printed}{shown}" + ("\n" if printed or shown else "")


def exec_text(task: dict[str, Any]) -> str:
    """Return what `juju exec` prints of a task."""
    results = task.get("results", {})
    return results.get("stdout", "") + results.get("stderr", "")


def show_task(session: Session, a: Arguments) -> None:
    """Show a task."""
    show(task_of(session, a.task, 0)["task"], a.format)


def cancel_task(session: Session, a: Arguments) -> None:
    """Take back a task that has not begun."""
    session.act("cancel", task=a.task)


def kubectl(session: Session, *words: str) -> list[str]:
    """Return a kubectl command about the model's namespace."""
    about = ["--kubeconfig", session.record.kubeconfig, "--namespace", session.model]
    return [session.record.kubectl, *about, *words]


def pod_of(session: Session, target: str, container: str) -> str:
    """Return the pod of a unit, also of `app/leader`; refuse a container that it has not."""
    unit = target.rpartition("@")[2]
    try:
        ((unit, _),) = session.read("show-unit", unit=unit).items()
    except ControllerError:
        raise ControllerError(f'getting unit "{unit}": unit {unit} not found') from None
    pod = unit.replace("/", "-")
    names = kubectl(session, "get", "pod", pod, "-o", "jsonpath={.spec.containers[*].name}")
    done = subprocess.run(names, capture_output=True, text=True)
    if done.returncode:
        raise ControllerError(f'unit "{unit}" has no pod: {done.stderr.strip()}')
    if container not in done.stdout.split():
        known = ", ".join(done.stdout.split())
        raise ControllerError(f'container "{container}" must be one of {known}')
    return pod


def ssh(session: Session, a: Arguments) -> int:
    """Run a command in a unit's pod, or a shell."""
    container = a.container or "charm"
    pod = pod_of(session, a.target, container)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    words = a.command[a.command[:1] == ["--"] :]
    shell = ["sh", "-c", " ".join(words) if words else "exec bash || exec sh"]
    how = ["exec", "-it" if terminal else "-i", pod, "-c", container, "--", *shell]
    if terminal:
        return min(subprocess.run(kubectl(session, *how)).returncode, 1)
    done = subprocess.run(kubectl(session, *how), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said, _, last = done.stderr.rstrip("\n").rpartition("\n")
        sys.stderr.write(f"{said}\n" if said else "")
        raise ControllerError(last or f"command terminated with exit code {done.returncode}")
    sys.stderr.write(done.stderr)
    return 0


def scp(session: Session, a: Arguments) -> None:
    """Copy files to or from a unit's pod."""
    container = a.container or "charm"
    paths = [word for word in a.paths if not word.startswith("-")]
    if len(paths) < 2:
        raise UsageError("at least two arguments required")

    def place(word: str) -> str:
        unit, colon, path = word.partition(":")
        return f"{pod_of(session, unit, container)}:{path}" if colon and "/" in unit else word

    *sources, target = [place(path) for path in paths]
    for source in sources:
        copy = kubectl(session, "cp", "-c", container, source, target)
        done = subprocess.run(copy, capture_output=True, text=True)
        if done.returncode:
            raise ControllerError(done.stderr.strip() or f"cannot copy {source}")


# --- secrets ------------------------------------------------------------------------------------


def secret_content(a: Arguments) -> dict[str, str]:
    """Return a secret's content from `key=value` words and from a YAML file."""
    content = pairs(a.words)
    if a.file:
        content |= {key: str(value) for key, value in from_yaml(a.file).items()}
    for key in [key for key in content if key.endswith("#file")]:
        content[key.removesuffix("#file")] = Path(content.pop(key)).read_text()
    for key in content:
        if not re.fullmatch(r"[a-z][a-z0-9-]+[a-z0-9]", key):
            raise UsageError(f'key "{key}" not valid')
    return content


def add_secret(session: Session, a: Arguments) -> None:
    """Add a secret."""
    content = secret_content(a)
    if not content:
        raise UsageError("missing secret value or filename")
    print(session.act("add-secret", name=a.name, content=content, description=a.info or ""))


def update_secret(session: Session, a: Arguments) -> None:
    """Give a secret new content."""
    content = secret_content(a) or None
    session.act("update-secret", name=a.name, content=content, description=a.info)


def grant_secret(session: Session, a: Arguments) -> None:
    """Let applications read a secret, or stop them."""
    session.act(a.verb, name=a.name, applications=a.applications.split(","))


def remove_secret(session: Session, a: Arguments) -> None:
    """Remove a secret, or one revision of it."""
    session.act("remove-secret", name=a.name, revision=a.revision)


def secrets(session: Session, a: Arguments) -> None:
    """Show secrets."""
    found = session.read("secrets", owner=a.owner)
    rows = [["ID", "Name", "Owner", "Rotation", "Revision", "Last updated"]]
    for name, about in found.items():
        label = about.get("name") or about.get("label") or "-"
        rows.append(
            [name, label, *(about[k] for k in ("owner", "rotation", "revision", "updated"))]
        )
    show(found, a.format, lambda: table(rows))


def show_secret(session: Session, a: Arguments) -> None:
    """Show a secret, with --reveal its content."""
    if a.revisions and (a.reveal or a.revision):
        raise UsageError("specify either --revisions or --revision/--reveal, not both")
    asked = {"reveal": a.reveal, "revisions": a.revisions, "revision": a.revision}
    found = session.read("show-secret", name=a.name, **asked)
    if a.format != "json":
        for about in found.values():
            if "content" in about:
                about["content"] = about["content"]["Data"]
    show(found, a.format)
