"""What `juju` does to a model: each verb takes JSON and returns JSON, and raises ModelError."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox import controller
from sandbox.charm import Charm, CharmError, read_charm
from sandbox.model import Model, ModelError
from sandbox.views import leader

TASKS = 500
"""How many ended tasks a model remembers."""


def deploy(
    model: Model,
    charm: str,
    name: str,
    resources: Mapping[str, str],
    complete: bool = True,
    **given: Any,
) -> dict[str, Any]:
    """Deploy a packed charm; `complete`: every image must be named, as in a bundle it need not."""
    read = local_charm(model, charm)
    missing = read.missing_images(resources)
    if missing and complete:
        raise ModelError(f"local charm missing OCI images for: {', '.join(missing)}")
    model.deploy(name or read.name, read, resources=resources, **given)
    return {"application": name or read.name, "charm": read.name, "revision": read.revision}


def local_charm(model: Model, path: str) -> Charm:
    """Return a packed charm, kept by the controller; each new content is a new revision."""
    source = Path(path)
    kept = controller.home() / "charms" / source.name
    try:
        read = read_charm(source)
    except CharmError as error:
        raise ModelError(str(error)) from None
    if not kept.exists():
        shutil.copyfile(source, kept)
    same = (a.charm for a in model.applications.values() if a.charm.path == kept)
    known = next(same, None)
    counter = f"charm {read.name}"
    revision = known.revision if known else model.counters.get(counter, 0)
    if known is None:
        model.counters[counter] = revision + 1
    return read.model_copy(update={"path": kept, "revision": revision})


def refresh(model: Model, name: str, charm: str, resources: Mapping[str, str], **more: Any) -> int:
    """Give an application another charm, or resources alone; return the charm's revision."""
    application = model.application(name)
    read = local_charm(model, charm) if charm else application.charm
    model.refresh(name, read, resources)
    if more.get("config"):
        model.set_config(name, more["config"])
    if more.get("trust"):
        model.set_trust(name, True)
    return read.revision


def add_unit(model: Model, name: str, number: int) -> None:
    """Add units to an application."""
    if name not in model.applications:
        raise ModelError(f'getting application "{name}" not found')
    model.scale(name, model.applications[name].scale + number)


def scale(model: Model, name: str, scale: int) -> None:
    """Give an application so many units."""
    if name not in model.applications:
        raise ModelError(
            f'could not scale application "{name}": getting application "{name}" not found'
        )
    model.scale(name, scale)


def integrate(model: Model, one: str, other: str) -> None:
    """Relate two endpoints."""
    model.integrate(one, other)


def remembered(model: Model, task: str) -> str:
    """Return a new task's id, after forgetting the oldest of many that have ended."""
    ended = [it.id for it in model.tasks.values() if it.completed is not None]
    for old in ended[:-TASKS]:
        del model.tasks[old]
    return task


def run(model: Model, unit: str, action: str, params: Mapping[str, Any]) -> str:
    """Queue an action; return its task's id."""
    return remembered(model, model.run_action(leader(model, unit), action, params).id)


def execute(model: Model, unit: str, command: str, timeout: float) -> str:
    """Queue a command on a unit; return its task's id."""
    return remembered(model, model.exec(leader(model, unit), command, timeout).id)


def cancel(model: Model, task: str) -> None:
    """Take back a task that nobody has begun."""
    found = model.tasks[task]
    unit = model.find(found.unit)
    if task in unit.tasks:
        unit.tasks.remove(task)
        found.status, found.completed = "cancelled", model.clock()


def add_secret(model: Model, name: str, content: Mapping[str, str], description: str) -> str:
    """Add a user's secret; return its URI."""
    return f"secret:{model.add_secret(name, content, description).id}"


def configure_model(model: Model, values: Mapping[str, str], reset: Sequence[str]) -> None:
    """Set and reset options of the model."""
    model.settings.update(values)
    for name in reset:
        model.settings.pop(name, None)


def constrain_model(model: Model, constraints: Mapping[str, str]) -> None:
    """Set the constraints of what is deployed from now on."""
    model.constraints = dict(constraints)


def annotate(model: Model, name: str, annotations: Mapping[str, str]) -> None:
    """Set an application's annotations."""
    model.application(name).annotations.update(annotations)


def expose(model: Model, name: str, exposed: bool) -> None:
    """Note that an application is exposed; on Kubernetes that changes nothing else."""
    model.application(name).exposed = exposed


def command_line(words: Sequence[str]) -> str:
    """Return the shell command that words make: one alone is a script, as `juju exec` has it."""
    return words[0] if len(words) == 1 else shlex.join(words)


VERBS: dict[str, Callable[..., Any]] = {
    "deploy": deploy,
    "refresh": refresh,
    "attach-resource": Model.attach_resource,
    "add-unit": add_unit,
    "remove-unit": Model.remove_unit,
    "scale": scale,
    "integrate": integrate,
    "remove-relation": Model.remove_relation,
    "set-config": Model.set_config,
    "reset-config": Model.reset_config,
    "set-constraints": Model.set_constraints,
    "trust": Model.set_trust,
    "annotate": annotate,
    "expose": expose,
    "remove-application": Model.remove_application,
    "remove-storage": Model.remove_storage,
    "resolved": Model.resolved,
    "run": run,
    "exec": execute,
    "cancel": cancel,
    "add-secret": add_secret,
    "update-secret": Model.update_secret,
    "grant-secret": Model.grant_secret,
    "revoke-secret": Model.revoke_secret,
    "remove-secret": Model.remove_secret,
    "configure-model": configure_model,
    "constrain-model": constrain_model,
}
