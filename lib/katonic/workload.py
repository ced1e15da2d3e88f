"""Makes one workload container match its part of a plan, by Pebble."""

import hashlib
import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

import ops

from katonic.plan import FILES, Container, File, Invalid, NotYet, Service, Step

READY = "katonic.dev/ready"
RETRY = "katonic.dev/retry"
_READY_SERVICE, _RETRY_SERVICE = "notify-ready", "notify-retry"
_OURS = {_READY_SERVICE, _RETRY_SERVICE}
_DIGEST = "KATONIC_DIGEST"


def apply(container: ops.Container, want: Container) -> list[str]:
    """Make the container match and return what changed.

    Raises:
        NotYet: Pebble, a step or a service is not ready; a notice wakes the charm when it is.
        Invalid: A service keeps failing, and someone has to read its log.
        ops.pebble.Error: Pebble could not do it now.
    """
    if not container.can_connect():
        if not want.services:
            return []
        raise NotYet(f"waiting for Pebble in {container.name}")
    layer = _layer(want)
    now = container.get_plan()
    replan = not _equal(now, layer)
    changes: list[str] = []
    if want.services and _digests(now) != _digests(layer):
        changes += _push(container, want)
        steps = [it for it in want.steps if not it.leader_only and not _has_run(container, it)]
        changes += [run(container, step) for step in steps]
    if want.services and replan:
        container.add_layer("katonic", layer, combine=True)
        changes.append(f"replanned {container.name}")
    services = container.get_services()
    running = {name for name, service in services.items() if service.is_running()}
    if gone := running - want.services.keys() - _OURS:
        container.stop(*gone)
        changes += [f"stopped {name}" for name in sorted(gone)]
    if want.services and (replan or not want.services.keys() <= running):
        _replan(container)
    _align_checks(container, want)
    _await(container, want, running)
    return changes


def run(container: ops.Container, step: Step) -> str:
    """Run a step and return what was done.

    Raises:
        NotYet: It failed; the message is the last line that it wrote to stderr.
    """
    if not container.can_connect():
        raise NotYet(f"waiting for Pebble in {container.name}")
    try:
        process = container.exec(
            list(step.argv), environment=dict(step.environment), timeout=step.timeout
        )
        process.wait_output()
    except ops.pebble.ExecError as error:
        raise NotYet(f"{step.name}: {_last_line(error.stderr) or error}") from error
    container.push(_mark(step), "", make_dirs=True)
    return f"ran {step.name}"


def restart(container: ops.Container, want: Container) -> None:
    """Restart the container's services."""
    if want.services:
        container.restart(*want.services)


def wake_later(container: ops.Container) -> None:
    """Have Pebble wake the charm in a while: what it waits for does not tell when it is there."""
    services = container.get_services()
    if any(it.is_running() for name, it in services.items() if name in _OURS):
        return
    if _RETRY_SERVICE not in services:
        command = _notifier("sleep 15", RETRY)
        layer: ops.pebble.LayerDict = {"services": {_RETRY_SERVICE: command}}
        container.add_layer("katonic", layer, combine=True)
    container.start(_RETRY_SERVICE)


def _layer(want: Container) -> ops.pebble.Layer:
    digest = _digest(want)
    services = {name: _service(name, it, digest) for name, it in want.services.items()}
    checks = {name: _check(it) for name, it in want.services.items() if it.ready}
    if checks:
        probes = " && ".join(_shell_probe(it) for it in want.services.values() if it.ready)
        # It gives up after a while, so that the charm looks again at what does not come up.
        wait = f"timeout 60 bash -c {shlex.quote(f'until {probes}; do sleep 0.5; done')}"
        services[_READY_SERVICE] = _notifier(wait, READY)
    return ops.pebble.Layer({"services": services, "checks": checks})


def _notifier(wait: str, key: str) -> ops.pebble.ServiceDict:
    # Pebble counts an exit within a second as a failed start, hence the sleep. It is never
    # enabled: a replan would start it again for each notice that it sends.
    script = f"{wait}; sleep 1; exec /charm/bin/pebble notify {key}"
    return {
        "override": "replace",
        "startup": "disabled",
        "command": shlex.join(["bash", "-c", script]),
        "on-success": "ignore",
        "on-failure": "ignore",
    }


def _service(name: str, service: Service, digest: str) -> ops.pebble.ServiceDict:
    command = service.command
    if service.secrets:
        command = shlex.join(["sh", "-c", f". {_secrets_file(name)}; exec {command}"])
    return {
        "override": "replace",
        "startup": "enabled",
        "command": command,
        "environment": {**service.environment, _DIGEST: digest},
        "kill-delay": _duration(service.kill_delay),
    }


def _duration(seconds: int) -> str:
    """Return seconds as Go prints them, and so Pebble's plan ("1m30s"), else each hook replans."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _check(service: Service) -> ops.pebble.CheckDict:
    check: ops.pebble.CheckDict = {
        "override": "replace",
        "level": "ready",
        "period": "10s",
        "timeout": "5s",
        "threshold": 3,
    }
    if isinstance(service.ready, str):
        return {**check, "http": {"url": service.ready}}
    return {**check, "exec": {"command": shlex.join(service.ready)}}


def _shell_probe(service: Service) -> str:
    """Return the readiness question in bash alone: not every image has curl."""
    if not isinstance(service.ready, str):
        return f"{shlex.join(service.ready)} >/dev/null 2>&1"
    url = urlsplit(service.ready)
    request = f"GET {url.path or '/'} HTTP/1.0\\r\\nHost: {url.netloc}\\r\\n\\r\\n"
    ask = f"exec 3<>/dev/tcp/{url.hostname}/{url.port or 80} && printf '{request}' >&3"
    answer = 'read -r -t 5 line <&3 && [[ "$line" == *" 200"* ]]'
    return f"( {ask} && {answer} ) 2>/dev/null"


def _digest(want: Container) -> str:
    """Return a name for all that a service reads besides its command, so that replan restarts it.

    It survives a hook that dies between writing a file and restarting what reads it.
    """
    parts = [
        {path: [it.content, it.permissions] for path, it in _files(want).items()},
        [[step.name, step.key] for step in want.steps],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _files(want: Container) -> dict[str, File]:
    files = {path: it if isinstance(it, File) else File(it) for path, it in want.files.items()}
    for name, service in want.services.items():
        if service.secrets:
            lines = (f"export {key}={shlex.quote(it)}\n" for key, it in service.secrets.items())
            files[_secrets_file(name)] = File("".join(lines), 0o600)
    return files


def _secrets_file(service: str) -> str:
    return f"{FILES}/{service}.env"


def _digests(plan: ops.pebble.Plan | ops.pebble.Layer) -> set[str]:
    return {it.environment[_DIGEST] for it in plan.services.values() if _DIGEST in it.environment}


def _equal(now: ops.pebble.Plan, layer: ops.pebble.Layer) -> bool:
    """Return whether Pebble's plan holds the layer; Pebble adds defaults of its own to checks."""
    return all(now.services.get(name) == it for name, it in layer.services.items()) and all(
        name in now.checks and it.to_dict().items() <= now.checks[name].to_dict().items()
        for name, it in layer.checks.items()
    )


def _push(container: ops.Container, want: Container) -> list[str]:
    changed = []
    for path, file in _files(want).items():
        if _read(container, path) != file.content:
            container.push(path, file.content, make_dirs=True, permissions=file.permissions)
            changed.append(f"wrote {path}")
    return changed


def _read(container: ops.Container, path: str) -> str | None:
    try:
        with container.pull(path) as file:
            return file.read()
    except ops.pebble.PathError:
        return None


def _mark(step: Step) -> str:
    return f"{FILES}/steps/{hashlib.sha256(f'{step.name} {step.key}'.encode()).hexdigest()[:16]}"


def _has_run(container: ops.Container, step: Step) -> bool:
    return container.exists(_mark(step))


def _last_line(text: str | None) -> str:
    return ["", *(text or "").strip().splitlines()][-1]


def _replan(container: ops.Container) -> None:
    try:
        container.replan()
    except ops.pebble.ChangeError as error:
        raise NotYet(reason(error)) from error


def reason(error: Exception) -> str:
    """Return the one line of a Pebble error that says why; its first line says only what."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [repr(error)])[0]


def _align_checks(container: ops.Container, want: Container) -> None:
    """Run the checks of what runs, and no other: that of a stopped service would go on failing."""
    checks = container.get_checks()
    inactive = {name for name, it in checks.items() if it.status is _INACTIVE}
    if stale := checks.keys() - want.services.keys() - inactive:
        container.stop_checks(*stale)
    if asleep := inactive & want.services.keys():
        container.start_checks(*asleep)


_INACTIVE = ops.pebble.CheckStatus.INACTIVE


def _await(container: ops.Container, want: Container, running: set[str]) -> None:
    for name, service in want.services.items():
        silence = _silence(container, service.ready) if service.ready else None
        if silence is None:
            continue
        if container.get_service(name).current in _FAILING:
            hint = f"juju ssh --container {container.name} UNIT /charm/bin/pebble logs {name}"
            raise Invalid(f"{name} keeps failing; see: {hint}")
        if _READY_SERVICE not in running:
            container.start(_READY_SERVICE)
        raise NotYet(silence or f"{name} is starting")


_FAILING = ("backoff", ops.pebble.ServiceStatus.ERROR)


def _silence(container: ops.Container, ready: str | Sequence[str]) -> str | None:
    """Return None from a service that answers, else why it does not, if it says so in a line."""
    try:
        if isinstance(ready, str):
            urllib.request.urlopen(ready, timeout=5).close()  # noqa: S310 - localhost
        else:
            container.exec(list(ready), timeout=5).wait_output()
    except urllib.error.HTTPError as error:
        with error:
            plain = error.headers.get("Content-Type", "").startswith("text/plain")
            return error.read(200).decode(errors="replace").partition("\n")[0] if plain else ""
    except (OSError, ops.pebble.Error):
        return ""
    return None


def memory_limit(container: ops.Container) -> int | None:
    """Return the container's memory limit in MiB, or None when it has none.

    Raises:
        NotYet: Pebble does not answer: an unknown limit is not the absence of one.
    """
    if not container.can_connect():
        raise NotYet(f"waiting for Pebble in {container.name}")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with container.pull(path) as file:
                limit = file.read().strip()
        except ops.pebble.PathError:
            continue
        # Version 1 of cgroups says "none" by a number of bytes that no machine has.
        return int(limit) >> 20 if limit.isdigit() and int(limit) < 1 << 60 else None
    return None
