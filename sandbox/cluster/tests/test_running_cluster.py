"""What pods meet on the local cluster, on the one that runs; skipped where none does."""

import contextlib
import functools
import hashlib
import http.client
import http.server
import json
import shutil
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from sandbox import cluster
from sandbox.cluster import images
from sandbox.cluster.configuration import NODES, REGISTRY_PORT
from sandbox.cluster.home import Home
from sandbox.cluster.kubectl import fakes
from sandbox.cluster.node import Node
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
    return oci.read_reference(images.own(home, FOUND.kubectl.parent).busybox)


def pod(
    name: str, image: str, script: str, claims: dict[str, str] | None = None, user: int = 10001
) -> dict:
    claims = claims or {}
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
    server = pod("server", busybox, script)
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
    for spec in NODES:
        command = Node(Home.current(), spec).enter(["ip", "route", "get", "192.0.2.1"])
        assert subprocess.run(command).returncode != 0


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
    namespace.apply(pod("writer", busybox, script, mounts))
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


@pytest.fixture
def image(tmp_path) -> Iterator[str]:
    """Lay an image that no node has where the registry looks for it."""
    assert FOUND
    (tmp_path / "tree").mkdir()
    shutil.copy2(FOUND.kubectl.with_name("pause"), tmp_path / "tree")
    (tmp_path / "tree/other").write_text(uuid.uuid4().hex)
    tar = Home.current().platform_images / f"try-{uuid.uuid4().hex[:8]}.tar"
    tar.parent.mkdir(exist_ok=True)
    yield oci.write_image(
        tar, "localhost/katonic/try", "1", [tmp_path / "tree"], {"Entrypoint": ["/pause"]}
    )
    tar.unlink()


def on(node: str, pod: dict) -> dict:
    """Return the pod as one that is let onto every node and wants this one."""
    pod["spec"] |= {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [{"operator": "Exists"}],
    }
    return pod


def test_an_image_arrives_where_it_runs_and_nowhere_else(namespace, image):
    wanted = on("deployment1", pod("arrival", image, ""))
    del wanted["spec"]["containers"][0]["command"]
    namespace.apply(wanted)
    namespace.kubectl("wait", "pod/arrival", "--for=condition=Ready", "--timeout=60s")

    blobs = "containerd/io.containerd.content.v1.content/blobs/sha256"
    start_of_digest = image.rpartition("-")[2]
    homes = {spec.name: Home.current().folder(spec.name) for spec in NODES}
    holders = [it for it in homes if list((homes[it] / blobs).glob(f"{start_of_digest}*"))]
    assert holders == ["deployment1"]
    namespace.kubectl("delete", "pod/arrival")


@dataclass(frozen=True)
class Answer:
    """What the registry said."""

    status: int
    headers: Message
    body: bytes


def ask_registry(path: str, method: str = "GET", **headers: str) -> Answer:
    asking = http.client.HTTPConnection(NODES[0].address, REGISTRY_PORT, timeout=10)
    with contextlib.closing(asking):
        asking.request(method, path, headers=headers)
        said = asking.getresponse()
        return Answer(said.status, said.headers, said.read())


def test_the_registry_serves_an_image_by_tag_and_digest_and_its_blobs_in_parts(image):
    name, _, tag = image.removeprefix("localhost/").partition(":")
    assert ask_registry("/v2/").status == 200
    head = ask_registry(f"/v2/{name}/manifests/{tag}", "HEAD").headers
    manifest = ask_registry(f"/v2/{name}/manifests/{head['Docker-Content-Digest']}").body
    assert head["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert head["Content-Length"] == str(len(manifest))
    assert head["Docker-Content-Digest"] == digest(manifest)
    layer = json.loads(manifest)["layers"][0]["digest"]
    blob = f"/v2/{name}/blobs/{layer}"
    parts = [ask_registry(blob, Range=it) for it in ("bytes=0-99", "bytes=100-")]
    assert [it.status for it in parts] == [206, 206]
    assert digest(b"".join(it.body for it in parts)) == layer


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize(
    "path", ["manifests/none", f"manifests/sha256:{'0' * 64}", f"blobs/sha256:{'0' * 64}", "tags"]
)
def test_the_registry_says_that_it_does_not_have_what_no_tar_holds(path):
    assert ask_registry(f"/v2/katonic/try/{path}").status == 404


def test_the_registry_takes_nothing():
    assert ask_registry("/v2/katonic/try/blobs/uploads/", "POST").status == 405


def test_a_pod_that_does_not_tolerate_a_nodes_taint_is_not_let_onto_it(namespace, busybox):
    tainted = [spec.name for spec in NODES if spec.taints]
    assert len(tainted) == 5
    pods = [on(name, pod(f"kept-off-{name}", busybox, "exec sleep 600")) for name in tainted]
    for it in pods:
        del it["spec"]["tolerations"]
    namespace.apply(*pods)
    for name in tainted:
        wanted = "jsonpath={.status.conditions[0].reason}=Unschedulable"
        namespace.kubectl("wait", f"pod/kept-off-{name}", f"--for={wanted}", "--timeout=30s")
        said = namespace.read("{.status.conditions[0].message}", f"pod/kept-off-{name}")
        assert "untolerated taint" in said
    namespace.kubectl("delete", *(f"pod/kept-off-{name}" for name in tainted))


def on_gpu(name: str, pool: str) -> dict:
    made = pod(name, "localhost/none", "true")
    made["spec"]["nodeSelector"] = {"katonic.ai/node-pool": pool}
    value = pool.replace("gpu-", "katonic-")
    made["spec"]["tolerations"] = [
        {"key": "nvidia.com/gpu", "value": value, "effect": "NoSchedule"}
    ]
    made["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    return made


def test_a_pod_of_a_gpu_pool_runs_on_the_node_that_kwok_plays(namespace):
    namespace.apply(on_gpu("v100", "gpu-v100"), on_gpu("a100", "gpu-A100"))
    pods = ("pod/v100", "pod/a100")
    namespace.kubectl("wait", *pods, "--for=condition=Ready", "--timeout=30s")
    nodes = namespace.read("{.items[*].spec.nodeName}", "pods", "--field-selector=spec.nodeName!=")
    assert {"gpu-v100-1", "gpu-a100-1"} <= set(nodes.split())
    namespace.apply(on_gpu("another", "gpu-v100"))
    wanted = "jsonpath={.status.conditions[0].reason}=Unschedulable"
    namespace.kubectl("wait", "pod/another", f"--for={wanted}", "--timeout=30s")
    namespace.kubectl("delete", *pods, "pod/another")


def test_whoever_makes_a_node_with_the_annotation_has_kwok_play_it(namespace, request):
    made = fakes()[0]
    made["metadata"]["name"] = namespace.name
    namespace.apply(made)
    request.addfinalizer(lambda: namespace.kubectl("delete", "node", namespace.name))
    namespace.kubectl("wait", f"node/{namespace.name}", "--for=condition=Ready", "--timeout=30s")
    lease = f"lease/{namespace.name}"
    namespace.kubectl("wait", "-n", "kube-node-lease", lease, "--for=create", "--timeout=30s")


def test_a_node_comes_back_from_a_power_cut_with_its_pods(namespace, busybox):
    spec = next(spec for spec in NODES if spec.name == "deployment1")
    namespace.apply(on(spec.name, pod("survivor", busybox, "exec sleep 600")))
    namespace.kubectl("wait", "pod/survivor", "--for=condition=Ready", "--timeout=60s")
    Node(Home.current(), spec).power_off()
    assert {it.node for it in cluster.status() if it.pid is None} == {spec.name}
    cluster.start(lambda message: None)
    assert all(it.pid for it in cluster.status())
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}=1"
    namespace.kubectl("wait", "pod/survivor", f"--for={restarts}", "--timeout=60s")
    namespace.kubectl("wait", "pod/survivor", "--for=condition=Ready", "--timeout=60s")
    namespace.kubectl("delete", "pod/survivor")


def test_a_label_that_a_person_changed_stays(namespace, request):
    pool = "katonic.ai/node-pool"
    change = ("label", "--overwrite", "node/deployment1")
    request.addfinalizer(lambda: namespace.kubectl(*change, f"{pool}=deployment"))
    namespace.kubectl(*change, f"{pool}=changed")
    cluster.start(lambda message: None)
    assert namespace.read("{.metadata.labels}", "node/deployment1").count("changed") == 1


def eventually(condition: Callable[[], bool]) -> bool:
    return cluster.until(condition, seconds=30)


def test_a_second_start_changes_nothing():
    before = cluster.status()
    told: list[str] = []
    assert cluster.start(told.append) == FOUND
    assert told == []
    assert cluster.status() == before
