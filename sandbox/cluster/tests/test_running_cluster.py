"""What pods meet on the local cluster, on the one that runs; skipped where none does."""

import functools
import http.server
import json
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import cluster
from sandbox.cluster import images
from sandbox.cluster.home import Home
from sandbox.images import oci

FOUND = cluster.find()
pytestmark = pytest.mark.skipif(FOUND is None, reason="the local cluster is off")


class Namespace:
    """A namespace of its own for one test run."""

    def __init__(self, name: str):
        assert FOUND
        self.name = name
        self.command = [FOUND.kubectl, "--kubeconfig", FOUND.kubeconfig, "--namespace", name]

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        ran = subprocess.run(
            [*self.command, *arguments], input=stdin, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def apply(self, *objects: dict) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))

    def read(self, path: str, *arguments: str) -> str:
        return self.kubectl("get", *arguments, f"--output=jsonpath={path}")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace(f"try-{uuid.uuid4().hex[:8]}")
    made.kubectl("create", "namespace", made.name)
    yield made
    made.kubectl("delete", "namespace", made.name)


@pytest.fixture(scope="module")
def busybox() -> str:
    assert FOUND
    home = Home.current()
    return next(iter(images.contents(images.own(home, FOUND.kubectl.parent).busybox)))


def pod(name: str, image: str, script: str, claims: dict[str, str], user: int) -> dict:
    mounts = [{"name": claim, "mountPath": path} for claim, path in claims.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "securityContext": {"fsGroup": 170, "supplementalGroups": [170]},
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "shell",
                    "image": image,
                    "command": ["sh", "-c", script],
                    "securityContext": {"runAsUser": user, "runAsGroup": user},
                    "volumeMounts": mounts,
                }
            ],
            "volumes": [
                {"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims
            ],
        },
    }


def claim(name: str, storage_class: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }


@pytest.fixture(scope="module")
def server(namespace, busybox) -> Namespace:
    script = "echo hello >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    server = pod("server", busybox, script, {}, 10001)
    probe = {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1}
    server["spec"]["containers"][0]["readinessProbe"] = probe
    namespace.apply(server, service)
    namespace.kubectl("wait", "pod/server", "--for=condition=Ready", "--timeout=60s")
    return namespace


def test_a_pod_reaches_a_service_by_its_name(server):
    url = f"http://server.{server.name}/index.html"
    said = server.kubectl("exec", "server", "--", "wget", "-qO-", url)
    assert said == "hello\n"


def test_this_machine_reaches_pods_and_services(server):
    address = server.read("{.status.podIP}", "pod/server")
    service = server.read("{.spec.clusterIP}", "service/server")
    for url in (f"http://{address}:8080/index.html", f"http://{service}/index.html"):
        assert urllib.request.urlopen(url, timeout=10).read() == b"hello\n"


def test_a_pod_reaches_this_machine(server, tmp_path):
    assert FOUND
    (tmp_path / "file").write_text("from the machine")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((FOUND.host_address, 0), handler) as serving:
        threading.Thread(target=serving.serve_forever).start()
        url = f"http://{FOUND.host_address}:{serving.server_port}/file"
        said = server.kubectl("exec", "server", "--", "wget", "-qO-", url)
        serving.shutdown()
    assert said == "from the machine"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def test_no_node_has_a_way_out_of_this_machine(server):
    for node in cluster.nodes_or_error():
        routed = subprocess.run(node.enter(["ip", "route", "get", "192.0.2.1"]), text=True)
        assert routed.returncode != 0


def test_a_volume_is_written_without_root_and_goes_or_stays_as_its_class_says(
    namespace, busybox, request
):
    kept = f"{namespace.name}-kept"
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": kept},
        "provisioner": "katonic.io/local",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    claims = (claim("gone", "standard"), claim("kept", kept))
    script = "echo mine >/gone/file && echo mine >/kept/file && exec sleep 600"
    namespace.apply(storage_class, *claims)
    request.addfinalizer(lambda: namespace.kubectl("delete", "storageclass", kept))
    mounts = {"gone": "/gone", "kept": "/kept"}
    namespace.apply(pod("writer", busybox, script, mounts, 10001))
    namespace.kubectl("wait", "pod/writer", "--for=condition=Ready", "--timeout=60s")
    volumes = {it: namespace.read("{.spec.volumeName}", f"pvc/{it}") for it in mounts}
    paths = {it: Path(namespace.read("{.spec.local.path}", f"pv/{volumes[it]}")) for it in mounts}
    for path in paths.values():
        assert eventually(lambda path=path: (path / "file").exists())
        assert (path / "file").stat().st_uid == 10001
        assert (path / "file").stat().st_gid == 170
    namespace.kubectl("delete", "pod/writer", "pvc/gone", "pvc/kept")
    namespace.kubectl("wait", f"pv/{volumes['gone']}", "--for=delete", "--timeout=60s")
    assert not paths["gone"].exists()
    assert (paths["kept"] / "file").read_text() == "mine\n"
    namespace.kubectl("delete", f"pv/{volumes['kept']}")
    assert (paths["kept"] / "file").read_text() == "mine\n"
    (paths["kept"] / "file").unlink()
    paths["kept"].rmdir()


def test_an_image_that_an_object_names_is_not_pruned_before_it_has_a_pod(namespace, tmp_path):
    (tmp_path / "tree").mkdir()
    tars = [tmp_path / f"{number}.tar" for number in range(2)]
    wanted, unwanted = (
        oci.write_image(
            tar, "localhost/katonic/try", "1", [tmp_path / "tree"], {"Cmd": [tar.stem]}
        )
        for tar in tars
    )
    assert cluster.load_images(tars) == tars
    assert cluster.load_images(tars) == []
    labels = {"app": "none"}
    template = pod("none", wanted, "true", {}, 10001)
    del template["spec"]["terminationGracePeriodSeconds"]
    namespace.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "none"},
            "spec": {
                "replicas": 0,
                "serviceName": "none",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
            },
        }
    )
    others = {it for node in cluster.nodes_or_error() for it in images.present(node)}
    keep = sorted(
        others - {wanted, unwanted}
    )  # what others loaded is none of this test's business
    assert cluster.prune_images(keep) == [unwanted]
    namespace.kubectl("delete", "statefulset", "none")
    assert cluster.prune_images(keep) == [wanted]


def eventually(condition: Callable[[], bool]) -> bool:
    return cluster.until(condition, seconds=30)


def test_a_second_start_changes_nothing():
    before = cluster.status()
    told: list[str] = []
    assert cluster.start(told.append) == FOUND
    assert told == []
    assert cluster.status() == before
