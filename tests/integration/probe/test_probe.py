"""The probe charm in real pods, driven by jubilant: what Juju was seen to do, the sandbox does.

A controller of the tests' own serves them, beside the user's, on the sandbox's cluster.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jubilant
import pytest
import yaml

from sandbox import controller

pytestmark = pytest.mark.skipif("JUJU" in os.environ, reason="of the sandbox alone")

ROOT = Path(__file__).resolve().parents[3]
PROBE = str(ROOT / "tests/charms/probe")


@dataclass(frozen=True)
class Seen:
    """One event as the probe charm saw it."""

    hook: str
    about: dict[str, str] = field(compare=False)


@dataclass
class Lab:
    """A model under test: Juju's commands, and what the probe's units have seen."""

    juju: jubilant.Juju
    image: str

    def deploy(self, application: str, units: int = 1, **more: object) -> None:
        images = {"one-image": self.image, "two-image": self.image}
        self.juju.deploy(PROBE, application, num_units=units, resources=images, **more)  # type: ignore[arg-type]

    def seen(self, unit: str, since: int = 0) -> list[Seen]:
        """Return what a unit has seen, in order; `since` is a number of events to leave out."""
        log = self.juju.cli("debug-log", "--limit", "0", "--include", unit)
        found = []
        for line in log.splitlines():
            _, mark, rest = line.partition("juju-log seen ")
            if mark:
                hook, _, about = rest.partition(" ")
                found.append(Seen(hook, json.loads(about)))
        return found[since:]

    def hooks(self, unit: str, since: int = 0) -> list[str]:
        return [event.hook for event in self.seen(unit, since)]

    def count(self, unit: str) -> int:
        return len(self.seen(unit))

    def until(self, done: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until something holds; show the model when it never does."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                shown = self.juju.cli("status", "--relations")
                raise AssertionError(
                    f"it never came to that:\n{shown}\n{self.juju.debug_log()[-6000:]}"
                )
            time.sleep(0.2)

    def until_seen(self, unit: str, hook: str, since: int) -> list[str]:
        """Wait until a unit has seen a hook; return all hooks since."""
        self.until(lambda: hook in self.hooks(unit, since))
        return self.hooks(unit, since)

    def settle(self) -> None:
        """Wait until every agent is idle and every workload active."""
        self.juju.wait(
            lambda s: jubilant.all_agents_idle(s) and jubilant.all_active(s), timeout=180
        )

    def kubectl(self, *words: str) -> str:
        record = controller.read_record()
        assert record
        about = ["--kubeconfig", record.kubeconfig, "--namespace", str(self.juju.model)]
        done = subprocess.run([record.kubectl, *about, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a controller of the tests' own, and end it."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KATONIC_STATE", str(folder))
        record = controller.ensure(lambda text: print(text, file=sys.stderr))
        yield folder
        juju = jubilant.Juju(cli_binary=str(ROOT / "sandbox/juju"))
        for left in controller.request(record, "GET", "/models"):
            juju.destroy_model(left["short-name"], destroy_storage=True, force=True)
        controller.stop()


@pytest.fixture(scope="module")
def lab(state: Path) -> Lab:
    record = controller.read_record()
    assert record
    juju = jubilant.Juju(cli_binary=str(ROOT / "sandbox/juju"))
    juju.add_model(f"probe-{os.getpid()}-{time.monotonic_ns() % 10000}")
    return Lab(juju, record.charm_image)


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Lab:
    """Give a model with p (one unit) and b (two units), unrelated and settled."""
    lab.deploy("p")
    lab.deploy("b", 2)
    lab.settle()
    return lab


def leader(lab: Lab, application: str) -> str:
    units = lab.juju.status().apps[application].units
    return next(name for name, unit in units.items() if unit.leader)


def test_a_first_unit_sees_the_events_of_a_deployment_in_jujus_order(pair: Lab) -> None:
    seen = pair.hooks("p/0")
    main = [
        h
        for h in seen
        if h in ("install", "ring-relation-created", "leader-elected", "config-changed", "start")
    ]
    assert main == [
        "install",
        "ring-relation-created",
        "leader-elected",
        "config-changed",
        "start",
    ]
    assert seen[0] == "install"
    assert sorted(h for h in seen if h not in main) == [
        "data-storage-attached",
        "one-pebble-ready",
        "two-pebble-ready",
    ]


def test_peers_join_and_change_in_turn(pair: Lab) -> None:
    for unit, other in (("b/0", "b/1"), ("b/1", "b/0")):
        ring = [
            e for e in pair.seen(unit) if e.hook.startswith("ring") and e.about.get("REMOTE_UNIT")
        ]
        assert [e.hook for e in ring] == ["ring-relation-joined", "ring-relation-changed"]
        assert {e.about["REMOTE_UNIT"] for e in ring} == {other}


def test_integrating_tells_created_joined_changed_and_removing_departed_broken(pair: Lab) -> None:
    marks = {unit: pair.count(unit) for unit in ("p/0", "b/0", "b/1")}
    pair.juju.integrate("p:prov", "b:req")
    for unit in ("b/0", "b/1"):
        pair.until_seen(unit, "req-relation-changed", marks[unit])
        created, joined, changed = pair.seen(unit, marks[unit])
        assert [created.hook, joined.hook, changed.hook] == [
            "req-relation-created",
            "req-relation-joined",
            "req-relation-changed",
        ]
        assert "REMOTE_UNIT" not in created.about
        assert joined.about["REMOTE_UNIT"] == changed.about["REMOTE_UNIT"] == "p/0"
    pair.until(lambda: len(pair.hooks("p/0", marks["p/0"])) == 5)
    assert (
        pair.hooks("p/0", marks["p/0"])
        == ["prov-relation-created"] + ["prov-relation-joined", "prov-relation-changed"] * 2
    )
    relation = pair.juju.exec("relation-ids req", unit="b/0").stdout.strip()
    bag = json.loads(
        pair.juju.exec(f"relation-get --format json -r {relation} - b/0", unit="p/0").stdout
    )
    assert set(bag) == {"egress-subnets", "ingress-address"}
    pair.juju.exec(f"relation-set -r {relation} --app word=hej", unit=leader(pair, "b"))
    pair.until(lambda: len(pair.hooks("p/0", marks["p/0"])) == 6)
    assert "REMOTE_UNIT" not in pair.seen("p/0")[-1].about
    with pytest.raises(jubilant.CLIError, match="already exists"):
        pair.juju.integrate("p:prov", "b:req")
    marks = {unit: pair.count(unit) for unit in marks}
    pair.juju.remove_relation("p:prov", "b:req")
    assert pair.until_seen("b/0", "req-relation-broken", marks["b/0"]) == [
        "req-relation-departed",
        "req-relation-broken",
    ]
    assert pair.until_seen("p/0", "prov-relation-broken", marks["p/0"]) == [
        "prov-relation-departed",
        "prov-relation-departed",
        "prov-relation-broken",
    ]


def test_a_changed_option_is_told_once_and_an_equal_one_never(pair: Lab) -> None:
    mark = pair.count("p/0")
    pair.juju.config("p", {"word": "hej", "number": 8})
    assert pair.until_seen("p/0", "config-changed", mark) == ["config-changed"]
    pair.juju.config("p", {"word": "hej"})
    pair.juju.exec("true", unit="p/0")
    assert pair.hooks("p/0", mark) == ["config-changed"]
    assert pair.juju.config("p")["number"] == 8
    with pytest.raises(jubilant.CLIError, match='option "number" expected int, got "abc"'):
        pair.juju.config("p", {"number": "abc"})
    pair.juju.config("p", reset=["word", "number"])
    pair.until(lambda: pair.hooks("p/0", mark) == ["config-changed"] * 2)


def test_a_failing_hook_is_shown_rolled_back_and_tried_again(pair: Lab) -> None:
    pair.juju.config("p", {"fail": "config-changed"})
    pair.until(lambda: pair.juju.status().apps["p"].units["p/0"].is_error)
    unit = pair.juju.status().apps["p"].units["p/0"]
    assert unit.workload_status.message == 'hook failed: "config-changed"'
    log = pair.juju.cli("debug-log", "--limit", "0", "--include", "p/0")
    assert (
        'hook "config-changed" (via hook dispatching script: dispatch) failed: exit status 3'
        in log
    )
    pair.until(
        lambda: pair.juju.cli("debug-log", "--limit", "0").count("failed: exit status 3") > 1
    )
    ring = pair.juju.exec("relation-get -r ring:0 --app - p", unit="p/0").stdout
    assert "lost" not in ring
    pair.juju.config("p", reset="fail")
    pair.juju.cli("resolved", "p/0")
    pair.settle()


def test_actions_answer_as_jujus_do(pair: Lab) -> None:
    task = pair.juju.run("p/0", "echo", {"word": "hej"})
    assert task.results == {"word": "hej", "nested": {"key": "value"}}
    assert task.log[0].endswith("echoing hej")
    with pytest.raises(jubilant.TaskError) as failed:
        pair.juju.run("p/0", "echo", {"exit": 4})
    assert failed.value.task.return_code == 4
    assert failed.value.task.stdout == "leaving\n"
    with pytest.raises(jubilant.TaskError, match="must be of type integer"):
        pair.juju.run("p/0", "echo", {"exit": "abc"})
    with pytest.raises(ValueError, match="not defined"):
        pair.juju.run("p/0", "nosuch")
    assert pair.juju.run("b/leader", "echo").results["word"] == "dflt"


def test_exec_ssh_and_scp_reach_the_unit(pair: Lab, tmp_path: Path) -> None:
    done = pair.juju.exec("echo out; echo err >&2; pwd", unit="p/0")
    assert (done.stdout, done.stderr) == ("out\n/var/lib/juju/agents/unit-p-0/charm\n", "err\n")
    with pytest.raises(jubilant.TaskError) as failed:
        pair.juju.exec("exit 3", unit="p/0")
    assert failed.value.task.return_code == 3
    with pytest.raises(TimeoutError):
        pair.juju.exec("sleep 3", unit="p/0", wait=1)
    assert pair.juju.ssh("p/0", "pwd") == "/var/lib/juju\n"
    assert pair.juju.ssh("p/0", "hostname", container="one") == "p-0\n"
    with pytest.raises(jubilant.CLIError, match="must be one of charm, one, two"):
        pair.juju.ssh("p/0", "hostname", container="nosuch")
    (tmp_path / "text").write_text("data")
    pair.juju.scp(tmp_path / "text", "p/0:/tmp/text", container="one")
    pair.juju.scp("p/0:/tmp/text", tmp_path / "back", container="one")
    assert (tmp_path / "back").read_text() == "data"


def test_trust_opens_the_cluster_and_closes_it_again(pair: Lab) -> None:
    assert pair.juju.run("p/0", "cluster").results["code"] == "403"
    pair.juju.trust("p", scope="cluster")
    pair.until(lambda: pair.juju.run("p/0", "cluster").results["code"] == "200")
    pair.juju.trust("p", remove=True, scope="cluster")
    pair.until(lambda: pair.juju.run("p/0", "cluster").results["code"] == "403")


def test_an_open_port_is_on_the_service(pair: Lab) -> None:
    pair.juju.exec("open-port 8080/tcp", unit="p/0")
    assert pair.juju.status().apps["p"].units["p/0"].open_ports == ["8080/tcp"]

    def ports() -> list[str]:
        spec = json.loads(pair.kubectl("get", "service", "p", "-o", "json"))["spec"]
        return [port["name"] for port in spec["ports"]]

    pair.until(lambda: ports() == ["juju-8080-tcp"])
    pair.juju.exec("close-port 8080/tcp", unit="p/0")
    pair.until(lambda: ports() == ["placeholder"])


def test_a_notice_and_a_check_of_the_workload_are_told(pair: Lab) -> None:
    mark = pair.count("p/0")
    notify = ["/charm/bin/pebble", "notify", "katonic.ai/ready"]
    pair.juju.ssh("p/0", *notify, container="one")
    pair.until_seen("p/0", "one-pebble-custom-notice", mark)
    assert pair.seen("p/0", mark)[0].about["NOTICE_KEY"] == "katonic.ai/ready"
    check = "override: replace, period: 200ms, threshold: 1, exec: {command: test -e /tmp/up}"
    script = [f"echo 'checks: {{up: {{{check}}}}}' >/tmp/layer", "cd /charm/bin"]
    script += ["./pebble add up /tmp/layer", "./pebble replan"]
    pair.juju.ssh("p/0", "; ".join(script), container="one")
    pair.until_seen("p/0", "one-pebble-check-failed", mark)
    pair.juju.ssh("p/0", "touch /tmp/up", container="one")
    assert pair.until_seen("p/0", "one-pebble-check-recovered", mark) == [
        "one-pebble-custom-notice",
        "one-pebble-check-failed",
        "one-pebble-check-recovered",
    ]


def test_a_killed_workload_container_is_told_as_ready_again(pair: Lab) -> None:
    mark = pair.count("b/0")
    pair.juju.ssh("b/0", "kill 1", container="two")
    pair.until_seen("b/0", "two-pebble-ready", mark)
    pair.settle()
    assert pair.hooks("b/0", mark) == ["two-pebble-ready"]


def test_a_killed_charm_container_stops_and_starts_and_replays_pebble(pair: Lab) -> None:
    mark = pair.count("p/0")
    pair.juju.ssh("p/0", "kill 1")
    pair.until(lambda: {"one-pebble-ready", "two-pebble-ready"} <= set(pair.hooks("p/0", mark)))
    pair.settle()
    seen = pair.hooks("p/0", mark)
    assert seen[:2] == ["stop", "start"]
    assert sorted(seen[2:]) == [
        "one-pebble-check-failed",
        "one-pebble-check-recovered",
        "one-pebble-custom-notice",
        "one-pebble-ready",
        "two-pebble-ready",
    ]


def test_a_deleted_pod_comes_back_without_install(pair: Lab) -> None:
    mark, old = (
        pair.count("b/1"),
        pair.kubectl("get", "pod", "b-1", "-o", "jsonpath={.metadata.uid}"),
    )
    pair.kubectl("delete", "pod", "b-1", "--wait=false")
    pair.until(lambda: {"one-pebble-ready", "two-pebble-ready"} <= set(pair.hooks("b/1", mark)))
    pair.settle()
    seen = pair.hooks("b/1", mark)
    assert [h for h in seen if "pebble" not in h] == [
        "stop",
        "upgrade-charm",
        "config-changed",
        "start",
    ]
    assert pair.kubectl("get", "pod", "b-1", "-o", "jsonpath={.metadata.uid}") != old


def test_refresh_replaces_the_pods_with_the_new_charm(pair: Lab, tmp_path: Path) -> None:
    mark = pair.count("p/0")
    changed = tmp_path / "probe"
    subprocess.run(["cp", "-r", PROBE, changed], check=True)
    source = changed / "src/charm.py"
    source.write_text(source.read_text().replace("seen %s %s", "seen %s %s "))
    pair.juju.refresh("p", path=changed)
    pair.until(lambda: {"one-pebble-ready", "two-pebble-ready"} <= set(pair.hooks("p/0", mark)))
    pair.settle()
    seen = [h for h in pair.hooks("p/0", mark) if "pebble" not in h]
    assert seen == ["stop", "upgrade-charm", "config-changed", "start"]
    assert pair.juju.status().apps["p"].charm_rev == 1


def test_a_users_secret_is_read_when_granted_and_told_when_changed(pair: Lab) -> None:
    uri = pair.juju.add_secret("mine", {"key-one": "first"})
    with pytest.raises(jubilant.TaskError, match="is not allowed to read this secret"):
        pair.juju.exec(f"secret-get {uri}", unit="p/0")
    pair.juju.grant_secret("mine", "p")
    assert pair.juju.exec(f"secret-get {uri} key-one", unit="p/0").stdout == "first\n"
    mark = pair.count("p/0")
    pair.juju.update_secret("mine", {"key-one": "second"})
    pair.until_seen("p/0", "secret-changed", mark)
    assert pair.juju.exec(f"secret-get {uri} key-one --refresh", unit="p/0").stdout == "second\n"
    assert pair.juju.show_secret("mine", reveal=True).content == {"key-one": "second"}
    assert [secret.revision for secret in pair.juju.secrets()] == [2]


def test_a_hook_in_flight_is_run_again_by_the_next_controller(pair: Lab) -> None:
    mark = pair.count("p/0")
    record = controller.read_record()
    assert record
    pair.juju.config("p", {"word": "slow"})
    pair.until(
        lambda: pair.juju.status().apps["p"].units["p/0"].juju_status.current == "executing"
    )
    os.kill(record.pid, signal.SIGKILL)
    pair.settle()
    pair.until_seen("p/0", "config-changed", mark)
    assert controller.read_record().pid != record.pid  # type: ignore[union-attr]
    assert pair.juju.config("p")["word"] == "slow"
    assert set(pair.hooks("p/0", mark)) == {"config-changed"}


def test_scaling_down_tells_the_leaving_and_the_staying_and_keeps_the_volume(pair: Lab) -> None:
    marks = {unit: pair.count(unit) for unit in ("b/0", "b/1")}
    pair.juju.remove_unit("b", num_units=1)
    assert pair.until_seen("b/1", "remove", marks["b/1"]) == [
        "data-storage-detaching",
        "ring-relation-departed",
        "stop",
        "remove",
    ]
    staying = pair.until_seen("b/0", "ring-relation-departed", marks["b/0"])
    # The unit whose agent was there first leads, which may have been the one that left.
    assert [it for it in staying if it != "leader-elected"] == ["ring-relation-departed"]
    pair.until(lambda: "b-1" not in pair.kubectl("get", "pods", "-o", "name"))
    storage = json.loads(pair.juju.cli("storage", "--format", "json"))["storage"]
    assert [s["status"]["current"] for s in storage.values()].count("detached") == 1
    pair.until(lambda: "-b-1" not in pair.kubectl("get", "pvc", "-o", "name"))


def test_a_charm_that_is_not_root_runs_a_workload_of_another_user(
    lab: Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "probe"
    subprocess.run(["cp", "-r", PROBE, folder], check=True)
    about = yaml.safe_load((folder / "charmcraft.yaml").read_text())
    about["charm-user"] = "non-root"
    about["containers"]["one"] |= {"uid": 10002, "gid": 10003}
    (folder / "charmcraft.yaml").write_text(yaml.safe_dump(about))
    images = {"one-image": lab.image, "two-image": lab.image}
    lab.juju.deploy(str(folder), "plain", resources=images)
    lab.settle()
    assert lab.juju.exec("id -u; id -g", unit="plain/0").stdout == "170\n170\n"
    assert lab.juju.ssh("plain/0", "id -u; id -G", container="one") == "10002\n10003 170\n"
    services = lab.juju.ssh("plain/0", "/charm/bin/pebble services", container="one")
    assert "active" in services
    assert lab.juju.ssh(
        "plain/0", "touch /data/mine && stat -c %u /data/mine", container="one"
    ) == ("10002\n")
    lab.juju.remove_application("plain", destroy_storage=True)
    lab.until(lambda: "plain" not in lab.juju.status().apps)
    lab.until(lambda: "plain" not in lab.kubectl("get", "pvc", "-o", "name"))


def test_an_agent_cannot_speak_for_another_unit(pair: Lab) -> None:
    conf = "/var/lib/juju/agents/unit-b-0/agent.conf"
    stolen = json.loads(pair.juju.ssh("b/0", f"cat {conf}"))
    forged = stolen["token"].replace(":b/0:", ":p/0:")
    record = controller.read_record()
    assert record
    impostor = controller.Record(record.uuid, "", forged, record.port)
    for path in ("/agent/next", "/models"):
        with pytest.raises(controller.ControllerError, match="permission denied"):
            controller.request(impostor, "GET", path, wait=0)


def test_a_removed_application_leaves_nothing_but_its_volume(pair: Lab) -> None:
    mark = pair.count("b/0")
    pair.juju.remove_application("b")
    pair.until(lambda: "b" not in pair.juju.status().apps)
    seen = [hook for hook in pair.hooks("b/0", mark) if hook != "ring-relation-departed"]
    assert seen == ["data-storage-detaching", "ring-relation-broken", "stop", "remove"]
    kinds = "statefulset,service,serviceaccount,role,rolebinding,secret,pvc"
    pair.until(
        lambda: not pair.kubectl("get", kinds, "-o", "name", "-l", "app.kubernetes.io/name=b")
    )
    assert f"{pair.juju.model}-b" not in pair.kubectl("get", "clusterrole", "-o", "name")
    volumes = json.loads(pair.kubectl("get", "pv", "-o", "json"))["items"]
    kept = [
        v
        for v in volumes
        if v["spec"]["claimRef"]["name"].endswith("-b-0")
        and v["spec"]["claimRef"]["namespace"] == pair.juju.model
    ]
    assert [v["spec"]["persistentVolumeReclaimPolicy"] for v in kept] == ["Retain"]


def test_a_destroyed_model_leaves_nothing(state: Path, lab: Lab) -> None:
    juju = jubilant.Juju(cli_binary=lab.juju.cli_binary)
    juju.add_model(f"short-{os.getpid()}")
    other = Lab(juju, lab.image)
    other.deploy("p")
    other.settle()
    with pytest.raises(jubilant.CLIError, match="persistent storage"):
        juju.destroy_model(str(juju.model))
    juju.destroy_model(str(juju.model), destroy_storage=True)
    assert str(juju.model) not in lab.kubectl("get", "namespace,clusterrole", "-o", "name")

    def volumes() -> str:
        return lab.kubectl("get", "pv", "-o", "jsonpath={.items[*].spec.claimRef.namespace}")

    end = time.monotonic() + 60
    while str(juju.model) in volumes():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_a_model_without_applications_is_destroyed(state: Path) -> None:
    juju = jubilant.Juju(cli_binary=str(ROOT / "sandbox/juju"))
    name = f"empty-{os.getpid()}"
    juju.add_model(name)
    juju.destroy_model(name, timeout=60)
    assert name not in juju.cli("models", include_model=False)
