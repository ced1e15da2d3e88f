"""The platform, deployed once for the session: on the sandbox, or on the Juju that JUJU names.

On Juju the charms are those of `./katonic pack`, and the images those of bundle.yaml.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jubilant

ROOT = Path(__file__).parents[2]
SANDBOX = ROOT / "sandbox/juju"
BINARY = os.environ.get("JUJU", str(SANDBOX))
ON_SANDBOX = str(SANDBOX) == BINARY
MODEL = os.environ.get("MODEL", "integration")
APPLICATIONS = {
    "files",
    "istio-ingress",
    "katonic-api",
    "katonic-ui",
    "keycloak",
    "mlflow",
    "mlflow-minio",
    "mongodb",
    "node-pools",
    "postgresql",
}


@dataclass(frozen=True)
class Platform:
    """The deployed bundle and the tools to look at it from outside of Juju."""

    juju: jubilant.Juju

    def settle(self, *applications: str, timeout: float = 300) -> jubilant.Status:
        """Return the status once the applications are active and idle."""
        names = applications or tuple(APPLICATIONS)

        def settled(status: jubilant.Status) -> bool:
            return jubilant.all_active(status, *names) and jubilant.all_agents_idle(status, *names)

        def broken(status: jubilant.Status) -> bool:
            return jubilant.any_error(status, *names)

        return self.juju.wait(settled, error=broken, timeout=timeout, delay=0.5)

    def address(self, application: str) -> str:
        """Return the address of the application's service."""
        return self.juju.status().apps[application].address

    def url(self, application: str, port: int) -> str:
        """Return where the application serves HTTP."""
        return f"http://{self.address(application)}:{port}"

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Return what kubectl prints in the model's namespace."""
        command = [*kubectl_command(), "--namespace", MODEL, *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=True
        ).stdout

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods of the model's applications."""
        found = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return [it for it in found if "app.kubernetes.io/name" in it["metadata"]["labels"]]

    def credentials(self, client: str) -> dict[str, str]:
        """Return what the client charm has been given."""
        return self.juju.run(f"{client}/0", "credentials").results

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Return what PostgreSQL answers its superuser, without headers."""
        return self.juju.ssh(
            "postgresql/0",
            "psql",
            "-h",
            "/charm/container/katonic",
            "-U",
            "postgres",
            "-d",
            database,
            "-AtXc",
            f"'{statement}'",
            container="postgresql",
        ).strip()


def kubectl_command() -> list[str]:
    """Return the command that talks to the cluster."""
    if not ON_SANDBOX:
        return ["kubectl"]
    return [sys.executable, "-m", "sandbox.cluster", "kubectl"]


def deploy_on_sandbox() -> None:
    """Bring the bundle up as the README's command does, in a model of the tests' own."""
    command = [sys.executable, "-m", "sandbox.up", "--model", MODEL]
    subprocess.run(command, check=True, cwd=ROOT)


def deploy_on_juju(juju: jubilant.Juju) -> None:
    """Deploy the bundle of packed charms on the controller at hand."""
    juju.cli("deploy", "--model", MODEL, str(ROOT / "bundle.yaml"), "--trust", include_model=False)


def charm_path(folder: Path) -> Path:
    """Return the charm as the binary at hand can deploy it."""
    return folder if ON_SANDBOX else ROOT / "dist" / f"{folder.name}.charm"


def image(name: str, published: str) -> str:
    """Return an image as the cluster at hand can pull it: made here, or as published."""
    if not ON_SANDBOX:
        return published
    from sandbox import images

    return images.build([name], lambda text: None)[name].reference


def eventually(holds: Callable[[], Any], timeout: float = 120, pause: float = 1) -> Any:
    """Return the first true answer, or the last exception's cause when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if answer := holds():
                return answer
            failure: Exception = AssertionError("it never came true")
        except Exception as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        time.sleep(pause)
