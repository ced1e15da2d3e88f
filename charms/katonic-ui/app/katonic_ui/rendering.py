"""How values look on a page: times, sizes, what somebody did."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from katonic_ui.assets import Assets
from katonic_ui.settings import Settings

_STEPS = ((60, 1, "second"), (3600, 60, "minute"), (86400, 3600, "hour"), (604800, 86400, "day"))
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_DEEDS = {
    "experiment.create": "created the experiment {experiment} in {entity}",
    "file.delete": "deleted {path} in {entity}",
    "file.write": "uploaded {path} to {entity}",
    "organization.create": "created the organization {entity}",
    "organization.delete": "deleted the organization {entity}",
    "organization.remove-member": "removed {entity} from {organization}",
    "organization.set-member": "made {entity} {role} of {organization}",
    "organization.update": "changed the organization {entity}",
    "project.add-member": "added {user} to {entity} as {role}",
    "project.create": "created {entity}",
    "project.delete": "deleted {entity}",
    "project.remove-member": "removed {user} from {entity}",
    "project.set-member": "made {user} {role} in {entity}",
    "project.update": "changed {entity}",
    "user.activate": "reactivated {entity}",
    "user.create": "made {entity} known",
    "user.deactivate": "deactivated {entity}",
    "user.sign-in": "signed in for the first time",
    "user.update": "has new details",
}
"""What an entry of the audit log says in a sentence, by its action."""
GIB = 2**30


def environment(settings: Settings, assets: Assets) -> jinja2.Environment:
    """Return what fills templates in: it escapes, and a name that lacks is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "asset": assets.url,
        "title": settings.title,
        "support": settings.support,
    }
    made.filters |= {
        "ago": ago,
        "size": size,
        "cores": cores,
        "lasted": lasted,
        "deed": deed,
        "exact": exact,
        "initials": initials,
        "number": number,
        "parameters": parameters,
        "zip": lambda one, other: list(zip(one, other, strict=True)),
        "path": lambda text: quote(text, safe="/"),
    }
    return made


def moment(text: str | None) -> datetime | None:
    """Return the time that an RFC 3339 text says."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def ago(text: str | None, now: datetime | None = None) -> Markup:
    """Return when something was: how long ago while that is news, else the day."""
    at = moment(text)
    if at is None:
        return Markup('<span class="muted">never</span>')
    passed = ((now or datetime.now(UTC)) - at).total_seconds()
    shown = f"{at.day} {at:%b %Y}"
    for limit, unit, name in _STEPS:
        if -60 < passed < limit:
            count = max(int(passed // unit), 0)
            shown = f"{count} {name}{'' if count == 1 else 's'} ago" if count else "just now"
            break
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), f"{at:%d %b %Y %H:%M:%S} UTC", shown
    )


def size(count: int | None) -> str:
    """Return a count of bytes for a person."""
    if count is None:
        return ""
    value = float(count)
    for unit in _UNITS[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} {_UNITS[-1]}"


def cores(count: float) -> str:
    """Return a number of cores for a person."""
    return f"{count:g} core{'' if count == 1 else 's'}"


def lasted(started: str | None, ended: str | None) -> str:
    """Return how long something took."""
    begin, end = moment(started), moment(ended)
    if begin is None or end is None:
        return ""
    minutes, seconds = divmod((end - begin).total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s"


def deed(entry: Mapping[str, Any], here: str = "") -> Markup:
    """Return what an entry of the audit log says, with a link to what is elsewhere."""
    entity, action = entry["entity"], entry["action"]
    name = Markup('<span class="name">{}</span>').format(entity["name"] or entity["id"])
    if entity["id"] == here:
        name = Markup("this project")
    elif entity["kind"] == "project" and not action.endswith(".delete"):
        name = Markup('<a href="/projects/{}">{}</a>').format(entity["id"], entity["name"])
    words = _Words(entry["details"] or {}, entity=name)
    if action not in _DEEDS:
        return Markup("{} {}").format(action, name)
    return Markup(_DEEDS[action]).format_map(words)  # noqa: S704 - the table above is ours


class _Words(dict[str, Any]):
    """What stands in a sentence; what lacks is left out."""

    def __missing__(self, key: str) -> str:
        return "?"


def exact(text: str) -> Markup:
    """Return when something was, to the second."""
    at = moment(text)
    assert at
    shown = f"{at:%Y-%m-%d} {at:%H:%M:%S}"
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), shown)


def initials(name: str) -> str:
    """Return up to two letters that stand for a person."""
    words = name.replace(".", " ").replace("-", " ").split() or ["?"]
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()


def number(value: float | None) -> str:
    """Return a number with as many digits as one reads."""
    return "" if value is None else f"{value:.4g}"


def parameters(values: Mapping[str, Any], **changes: Any) -> str:
    """Return the query of an address with some values changed; None and "" leave one out."""
    kept = {key: it for key, it in {**values, **changes}.items() if it not in (None, "")}
    return f"?{urlencode(kept)}" if kept else "?"
