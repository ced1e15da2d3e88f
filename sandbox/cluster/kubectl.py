"""The cluster's objects, applied with the built kubectl."""

import string
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.cluster.home import ClusterError

MANIFESTS = Path(__file__).parent / "manifests"
INTRODUCED = "katonic.ai/introduced"
"""The annotation of a node that has had its labels."""


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

    def apply(self, text: str) -> None:
        """Apply objects in YAML, a ClusterError if they are refused."""
        applied = self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
        if applied.returncode:
            raise ClusterError(f"the cluster refuses its own objects: {applied.stderr.strip()}")

    def apply_manifests(self, values: Mapping[str, str]) -> None:
        """Apply the manifests, with `$name` replaced by its value."""
        texts = (path.read_text() for path in sorted(MANIFESTS.glob("*.yaml")))
        self.apply("---\n".join(string.Template(text).substitute(values) for text in texts))

    def introduce(self, there: Mapping[str, Any], labels: Mapping[str, Mapping[str, str]]) -> bool:
        """Give the nodes that are new their labels, and make those that are objects alone.

        What was there before stays as it is, for a person may have changed it since. Returns
        whether all nodes were there to be labelled; if one was not, nothing is done.
        """
        if not labels.keys() <= there.keys():
            return False
        new = [fake for fake in fakes() if fake["metadata"]["name"] not in there]
        for name, wanted in labels.items():
            if INTRODUCED not in there[name]["metadata"].get("annotations", {}):
                metadata = {"name": name, "labels": wanted, "annotations": {INTRODUCED: "true"}}
                new.append({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        if new:
            self.apply(yaml.safe_dump_all(new))
        return True


def fakes() -> list[dict[str, Any]]:
    """Return the nodes that are objects alone."""
    return list(yaml.safe_load_all((MANIFESTS / "once/gpu-nodes.yaml").read_text()))


def is_ready(node: Mapping[str, Any] | None) -> bool:
    """Return whether a node says that it takes pods; one that is not there does not."""
    conditions = node["status"].get("conditions", []) if node else []
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)
