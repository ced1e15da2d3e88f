"""The cluster's objects: asked for, applied and waited for with the built kubectl."""

import string
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster.home import ClusterError

MANIFESTS = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Kubectl:
    """A kubectl and the kubeconfig that it uses."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return how it ended and what it said."""
        return subprocess.run(
            [self.program, "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
        )

    def reads(self, path: str) -> bool:
        """Return whether the API server answers a path, such as /readyz."""
        return self.run("get", "--raw", path).returncode == 0

    def images(self) -> set[str]:
        """Return the images that the cluster's pods, and what makes them, name."""
        kinds = "pods,statefulsets,deployments,daemonsets,jobs,cronjobs"
        read = self.run("get", kinds, "--all-namespaces", "--output=jsonpath={..image}")
        if read.returncode:
            raise ClusterError(f"the cluster's images are not known: {read.stderr.strip()}")
        return set(read.stdout.split())

    def apply(self, values: Mapping[str, str]) -> None:
        """Apply the manifests, with `$name` replaced by its value; a ClusterError if refused."""
        texts = (path.read_text() for path in sorted(MANIFESTS.glob("*.yaml")))
        text = "---\n".join(string.Template(text).substitute(values) for text in texts)
        applied = self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
        if applied.returncode:
            raise ClusterError(f"the cluster refuses its own objects: {applied.stderr.strip()}")

    def wait_for(self, name: str, *conditions: str) -> None:
        """Wait until an object has each of the conditions; a ClusterError after two minutes."""
        for condition in conditions:
            waited = self.run("wait", name, f"--for={condition}", "--timeout=120s")
            if waited.returncode:
                raise ClusterError(f"{name}: {waited.stderr.strip()}")
