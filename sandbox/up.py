"""Deploys the platform on this machine: a cluster, the images, the bundle; then says where it is.

Run again it changes nothing. `--format json` prints one JSON object a line instead of a table.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sandbox import cluster, gateway, images
from sandbox.charm import read_charm

ROOT = Path(__file__).parents[1]
JUJU = ROOT / "sandbox/juju"
LOCAL = "localhost/katonic/"
SIGN_IN = (
    "./katonic juju run keycloak/leader add-user username=ada email=ada@example.com admin=true"
)
COLOURS = {"active": "green", "blocked": "red", "error": "bold red"}


class Failure(Exception):  # noqa: N818 - the user reads its message alone
    """The platform could not be deployed; the message is one line that says why."""


@dataclass(frozen=True)
class Place:
    """Where a service answers, and the commands that tell its secrets."""

    application: str
    addresses: Sequence[str]
    secrets: Sequence[str]


@dataclass
class Screen:
    """Tells the progress to a person, in place; without a terminal, a line for each step."""

    started: float = field(default_factory=time.monotonic)
    console: Console = field(default_factory=Console)
    steps: list[str] = field(default_factory=list)
    applications: Mapping[str, Any] = field(default_factory=dict)
    live: Live | None = None

    def step(self, text: str) -> None:
        """Tell what is done now."""
        line = f"{time.monotonic() - self.started:6.1f} s  {text}"
        if not self.console.is_terminal:
            self.console.print(line, highlight=False)
            return
        self.steps = [*self.steps[-11:], line]
        self._draw()

    def status(self, applications: Mapping[str, Any]) -> None:
        """Tell how the applications are, as `juju status --format json` has them."""
        before = {name: _said(it) for name, it in self.applications.items()}
        self.applications = applications
        if self.console.is_terminal:
            self._draw()
            return
        for name, it in applications.items():
            if before.get(name) != _said(it):
                self.step(f"{name}: {_said(it)}")

    def end(self, places: Sequence[Place], front: gateway.Front | None) -> None:
        """Tell where everything is, first of all where a person goes in."""
        if self.live:
            self.live.stop()
        table = Table("Application", "Addresses", "Secrets", box=None, pad_edge=False)
        for it in places:
            table.add_row(it.application, "\n".join(it.addresses), "\n".join(it.secrets))
        seconds = time.monotonic() - self.started
        self.console.print(f"\n[green]The platform is up[/] after {seconds:.0f} s.\n")
        if front:
            self.console.print(f"[bold]{front.url}[/]\n")
            for trouble in front.troubles:
                self.console.print(f"[yellow]{trouble}[/]\n", highlight=False, soft_wrap=True)
            self.console.print("Make an account to sign in with:")
            self.console.print(f"{SIGN_IN}\n", highlight=False, soft_wrap=True)
        self.console.print(table)
        self.console.print("\nLook around:  ./katonic juju status    Stop it:  ./katonic stop")

    def _draw(self) -> None:
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=4)
            self.live.start()
        table = Table("Application", "Status", "Message", box=None, pad_edge=False)
        for name, it in self.applications.items():
            now = it["application-status"]
            colour = COLOURS.get(now["current"], "yellow")
            table.add_row(name, f"[{colour}]{now['current']}[/]", Text(now.get("message", "")))
        self.live.update(Group(*map(Text, self.steps), Text(), table))


@dataclass
class Lines:
    """Tells the progress to a program: one JSON object a line."""

    started: float = field(default_factory=time.monotonic)
    last: dict[str, str] = field(default_factory=dict)

    def step(self, text: str) -> None:
        """Tell what is done now."""
        self._print(step=text)

    def status(self, applications: Mapping[str, Any]) -> None:
        """Tell how the applications are, each change once."""
        for name, it in applications.items():
            if self.last.get(name) != _said(it):
                self.last[name] = _said(it)
                self._print(application=name, **it["application-status"])

    def end(self, places: Sequence[Place], front: gateway.Front | None) -> None:
        """Tell where everything is."""
        way_in = {**asdict(front), "sign_in": SIGN_IN} if front else {}
        self._print(**way_in, places=[asdict(it) for it in places])

    def _print(self, **words: Any) -> None:
        print(json.dumps({"seconds": round(time.monotonic() - self.started, 1), **words}))


def _said(application: Mapping[str, Any]) -> str:
    now = application["application-status"]
    return f"{now['current']} {now.get('message', '')}".strip()


def juju(*arguments: str) -> str:
    """Return what the sandbox's juju prints.

    Raises:
        Failure: It refused; the message is its own.
    """
    done = subprocess.run([JUJU, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"juju {arguments[0]} failed"]
        raise Failure(lines[-1].removeprefix("ERROR "))
    return done.stdout


def up(screen: Screen | Lines, model: str, overlays: Sequence[Path], timeout: float) -> None:
    """Bring the platform up and tell where it is.

    Raises:
        Failure: An application cannot become active, or not within `timeout` seconds.
    """
    started = cluster.start(screen.step)
    overlay = yaml.safe_load((ROOT / "bundle/overlays/sandbox.yaml").read_text())
    folders = localise(overlay)
    wanted = images_of(overlay)
    built = images.build([*wanted, "agent", "charm-base"], screen.step)
    for application in overlay["applications"].values():
        for resource, name in application["resources"].items():
            application["resources"][resource] = built[name.removeprefix(LOCAL)].reference
    models = json.loads(juju("models", "--format", "json"))["models"]
    if model not in {it["short-name"] for it in models}:
        juju("add-model", model)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(overlay, file)
        file.flush()
        screen.step("deploying bundle.yaml")
        more = [word for path in overlays for word in ("--overlay", str(path))]
        bundle = str(ROOT / "bundle.yaml")
        juju("deploy", "--model", model, bundle, "--overlay", file.name, *more, "--trust")
    applications = wait(screen, model, timeout)
    places = [place(name, it, folders.get(name)) for name, it in applications.items()]
    screen.end(places, front(screen, started, model, applications))


def front(
    screen: Screen | Lines, started: cluster.Cluster, model: str, applications: Container[str]
) -> gateway.Front | None:
    """Return the platform's one address, which leads to its gateway; None if it has none."""
    if gateway.APPLICATION not in applications:
        return None
    option = (gateway.APPLICATION, "external-hostname")
    hostname = juju("config", "--model", model, *option).strip()
    return gateway.open_front(started, model, hostname, screen.step) if hostname else None


def localise(overlay: dict[str, Any]) -> dict[str, Path]:
    """Make the overlay's charm folders absolute, and return them by application."""
    folders = {}
    for name, application in overlay["applications"].items():
        folders[name] = (ROOT / "bundle/overlays" / application["charm"]).resolve()
        application["charm"] = str(folders[name])
    return folders


def images_of(overlay: Mapping[str, Any]) -> list[str]:
    """Return the names of the images that the overlay wants from this machine."""
    references = {
        reference
        for application in overlay["applications"].values()
        for reference in application["resources"].values()
    }
    return sorted(it.removeprefix(LOCAL) for it in references if it.startswith(LOCAL))


def wait(screen: Screen | Lines, model: str, timeout: float) -> Mapping[str, Any]:
    """Return the applications once all are active and settled.

    Raises:
        Failure: It took longer than `timeout` seconds; the message names who is not active.
    """
    deadline = time.monotonic() + timeout
    while True:
        status = json.loads(juju("status", "--model", model, "--format", "json"))
        applications: Mapping[str, Any] = status["applications"]
        screen.status(applications)
        if applications and all(is_settled(it) and answers(it) for it in applications.values()):
            return applications
        if time.monotonic() > deadline:
            late = [f"{n}: {_said(it)}" for n, it in applications.items() if not is_settled(it)]
            raise Failure(f"not active after {timeout:.0f} s: {'; '.join(late)}")
        time.sleep(1)


def is_settled(application: Mapping[str, Any]) -> bool:
    """Return whether every unit is active and has nothing to do."""
    units = application.get("units", {}).values()
    return bool(units) and all(
        it["workload-status"]["current"] == "active" and it["juju-status"]["current"] == "idle"
        for it in units
    )


def answers(application: Mapping[str, Any]) -> bool:
    """Return whether every port of the application takes connections.

    After a restart of the cluster, a status is what was known before it.
    """
    try:
        for number in ports(application):
            socket.create_connection((application["address"], number), timeout=2).close()
    except OSError:
        return False
    return True


def ports(application: Mapping[str, Any]) -> list[int]:
    """Return the ports that any unit of the application has opened."""
    opened = {port for it in application["units"].values() for port in it.get("open-ports", [])}
    return sorted(int(port.partition("/")[0]) for port in opened)


def place(name: str, application: Mapping[str, Any], folder: Path | None) -> Place:
    """Return where an application answers, and which of its actions tell a secret."""
    actions = read_charm(folder).actions if folder else {}
    return Place(
        name,
        [f"{application['address']}:{number}" for number in ports(application)],
        [f"./katonic juju run {name}/leader {it}" for it in actions if it.startswith("get-")],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy the platform as the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(prog="./katonic deploy", description=__doc__)
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--model", default="katonic")
    parser.add_argument("--overlay", type=Path, action="append", default=[])
    parser.add_argument("--timeout", type=float, default=1200, help="seconds (default 1200)")
    words = parser.parse_args(arguments)
    screen = Lines() if words.format == "json" else Screen()
    try:
        up(screen, words.model, words.overlay, words.timeout)
    except (Failure, cluster.ClusterError, images.ImageError) as error:
        if isinstance(screen, Screen) and screen.live:
            screen.live.stop()
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
