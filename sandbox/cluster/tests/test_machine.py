import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import cluster
from sandbox.cluster import cgroups, network, node, processes
from sandbox.cluster.configuration import NodeSpec
from sandbox.cluster.home import ClusterError, Home
from sandbox.cluster.processes import Process


def test_the_routes_of_an_ordinary_machine_are_not_in_the_way():
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "192.168.1.0/24", "dev": "eth0"},
        {"dst": "172.17.0.0/16", "dev": "docker0"},
    ]
    assert network.overlap(routes) is None


def test_the_clusters_own_routes_are_not_in_the_way():
    routes = [
        {"dst": "10.200.0.0/24", "dev": network.BRIDGE},
        {"dst": "10.244.1.0/24", "dev": network.BRIDGE},
        {"type": "unreachable", "dst": "10.96.0.0/16"},
    ]
    assert network.overlap(routes) is None


@pytest.mark.parametrize("taken", ["10.244.0.0/24", "10.0.0.0/8", "10.96.0.1", "10.200.0.0/16"])
def test_a_route_into_the_clusters_ranges_is_in_the_way(taken):
    route = {"dst": taken, "dev": "flannel.1"}
    assert network.overlap([{"dst": "default"}, route]) == route


def test_on_cgroup_v1_a_node_gets_a_group_in_each_hierarchy_with_usable_cpus(tmp_path):
    for name in ("cpuset", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    for group in ("", "katonic", "katonic/node1"):  # as the kernel fills a new group
        (tmp_path / "cpuset" / group).mkdir(exist_ok=True)
        (tmp_path / "cpuset" / group / "cpuset.cpus").write_text("\n" if group else "0-1\n")
    cgroups.make("node1", tmp_path)
    assert (tmp_path / "memory/katonic/node1").is_dir()
    assert (tmp_path / "cpuset/katonic/node1/cpuset.cpus").read_text() == "0-1\n"


def test_beside_cgroup_v1_a_mounted_v2_is_left_as_it_is(tmp_path):
    (tmp_path / "unified").mkdir()
    for name in ("cgroup.procs", "cgroup.controllers", "cgroup.subtree_control"):
        (tmp_path / "unified" / name).write_text("hugetlb" if name.endswith("controllers") else "")
    cgroups.make("node1", tmp_path)
    assert (tmp_path / "unified/cgroup.subtree_control").read_text() == ""


def test_on_cgroup_v2_a_nodes_group_gets_the_controllers_that_pods_need(tmp_path):
    for group in ("", "katonic"):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / "cgroup.controllers").write_text("cpuset cpu memory misc pids\n")
        (tmp_path / group / "cgroup.subtree_control").write_text("cpuset pids\n")
    cgroups.make("node1", tmp_path)
    for group in ("", "katonic"):
        assert (tmp_path / group / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "katonic/node1").is_dir()


def test_removing_a_nodes_groups_leaves_the_other_nodes(tmp_path):
    (tmp_path / "memory/katonic/node1/kubepods/pod").mkdir(parents=True)
    (tmp_path / "memory/katonic/node2/kubepods").mkdir(parents=True)
    (tmp_path / "memory/cgroup.procs").touch()
    cgroups.remove("node1", tmp_path)
    assert [it.name for it in (tmp_path / "memory/katonic").iterdir()] == ["node2"]
    cgroups.remove(root=tmp_path)
    assert not (tmp_path / "memory/katonic").exists()


def test_a_process_is_found_by_its_arguments_and_ends_when_told(tmp_path):
    argv = [sys.executable, "-c", "import time; time.sleep(600)", str(tmp_path)]
    processes.spawn(argv, tmp_path / "log")
    assert processes.until(lambda: bool(of(argv)), seconds=20)
    (found,) = of(argv)
    processes.end(found, processes.signal.SIGTERM)
    assert not of(argv)
    processes.end(found, processes.signal.SIGTERM)  # one that is gone is no error


def of(argv: list[str]) -> list[Process]:
    return [process for process in processes.running() if list(process.argv) == argv]


def test_a_spawned_process_inherits_no_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    processes.spawn(["env"], tmp_path / "log")
    assert processes.until(lambda: "PATH" in (tmp_path / "log").read_text(), seconds=20)
    assert "SECRET_TOKEN" not in (tmp_path / "log").read_text()


def test_what_does_not_come_is_an_error_that_names_the_log(tmp_path):
    with pytest.raises(ClusterError, match=f"the API server did not come .* {tmp_path}"):
        processes.wait(lambda: False, 0, "the API server", tmp_path)


def first_process(root: Path, spec: NodeSpec) -> Process:
    argv = ("/programs/pause", node.MARK, str(root), spec.name, str(spec.number))
    return Process(4711, argv, "pid:[1]")


@pytest.fixture
def machine(monkeypatch):
    found: list[Process] = []
    monkeypatch.setattr(node, "running", lambda: found)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return found


def test_the_nodes_that_run_are_found_without_any_file(machine, tmp_path):
    gpu = NodeSpec("gpu", 2)
    machine += [first_process(tmp_path, gpu), Process(1, ("/pause",), "pid:[2]")]
    machine += [first_process(tmp_path, NodeSpec("node1", 1))]
    assert [it.spec.name for it in node.running_nodes(Home(tmp_path))] == ["node1", "gpu"]


def test_a_process_counts_only_in_its_own_nodes_pid_namespace(machine, tmp_path):
    spec = NodeSpec("node1", 1)
    machine += [first_process(tmp_path, spec)]
    machine += [Process(5, ("/programs/kubelet", "--x"), "pid:[9]")]
    assert node.Node(Home(tmp_path), spec).found("kubelet") == []
    machine += [Process(6, ("/programs/kubelet", "--x"), "pid:[1]")]
    assert [it.pid for it in node.Node(Home(tmp_path), spec).found("kubelet")] == [6]


def test_status_tells_what_is_dead(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path))
    machine += [first_process(tmp_path / "cluster", NodeSpec("platform1", 2))]
    machine += [Process(6, ("/programs/kubelet", "--x"), "pid:[1]")]
    told = {(it.node, it.process): it.pid for it in cluster.status()}
    assert told["platform1", "kubelet"] == 6
    assert told["platform1", "containerd"] is None
    assert told["control", "etcd"] is None


def test_a_cluster_of_other_nodes_is_an_error_that_says_what_to_run(tmp_path):
    home = Home(tmp_path)
    cluster.refuse_other_nodes(home)
    home.folder("control").mkdir(parents=True)
    cluster.refuse_other_nodes(home)
    home.folder("node1").mkdir()
    with pytest.raises(ClusterError, match=r"other nodes \(node1\): run `./katonic stop --wipe`"):
        cluster.refuse_other_nodes(home)


def test_a_cluster_of_another_cache_is_left_alone_and_named(machine, tmp_path):
    machine += [first_process(tmp_path / "other/cluster", NodeSpec("node1", 1))]
    with pytest.raises(ClusterError, match=f"KATONIC_CACHE={tmp_path}/other"):
        cluster.refuse_strangers(Home(tmp_path / "cluster"))


def test_a_kubeconfig_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=f"KUBECONFIG={tmp_path}/none is no file"):
        cluster.start(lambda message: None)


def test_the_clusters_own_kubeconfig_does_not_count_as_another_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(Home.current().kubeconfig))
    assert cluster.named_kubeconfig() is None


def test_without_root_the_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="use sudo, or set KUBECONFIG"):
        cluster.start(lambda message: None)


def test_a_command_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(ClusterError, match=r"^sh -c .*: last$"):
        processes.run(["sh", "-c", "echo first >&2; echo last >&2; exit 3"])


def test_by_hand_status_of_a_cluster_that_is_off_fails(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "sandbox.cluster", "status"],
        env={"KATONIC_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=Path(cluster.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (1, "off\n")
