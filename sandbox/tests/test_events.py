"""Events come as Juju 4.0.14 was seen to send them (the contract's section 2)."""

import pytest
from lab import Lab, of

from sandbox import events
from sandbox.hooktools import HookContext
from sandbox.model import Model, ModelError


def test_a_first_unit_is_installed_elected_configured_and_started(lab: Lab) -> None:
    lab.deploy("p")
    assert [e.kind for _, e in lab.told] == [
        "install",
        "relation-created",
        "leader-elected",
        "storage-attached",
        "config-changed",
        "start",
        "pebble-ready",
        "pebble-ready",
    ]


def test_a_follower_is_told_the_same_without_leader_elected(lab: Lab) -> None:
    lab.deploy("b", 2)
    told = [events.hook_name(e) for unit, e in lab.told if unit == "b/1"]
    assert told[:2] == ["install", "ring-relation-created"]
    assert "leader-elected" not in told
    assert told.index("config-changed") < told.index("start") < told.index("ring-relation-joined")


def test_pebble_may_be_ready_before_start_and_storage_may_be_attached_last(lab: Lab) -> None:
    lab.model.deploy("p", lab.charm)
    lab.model.pod_up("p/0", "10.1.0.1", "uid")
    lab.settle()
    lab.model.storage_ready("p/0")
    assert lab.settle() == ["p/0 data-storage-attached"]
    lab.model.deploy("q", lab.charm)
    lab.model.pod_up("q/0", "10.1.0.2", "uid")
    lab.model.pebble_ready("q/0", "c1")
    for _ in range(2):
        lab.step("q/0")
    due = events.due(lab.model, lab.model.find("q/0"), lab.now)
    assert {e.kind for e in due} == {"leader-elected", "pebble-ready"}


def test_nothing_is_told_before_install_and_nothing_without_a_pod(lab: Lab) -> None:
    lab.model.deploy("p", lab.charm)
    assert lab.settle() == []
    lab.model.pod_up("p/0", "10.1.0.1", "uid")
    lab.model.storage_ready("p/0")
    lab.model.pebble_ready("p/0", "c1")
    assert [e.kind for e in events.due(lab.model, lab.model.find("p/0"), lab.now)] == ["install"]


def test_each_unit_is_told_of_a_relation_then_of_each_remote_unit_twice(lab: Lab) -> None:
    lab.deploy("p")
    lab.deploy("b", 3)
    lab.model.integrate("p:prov", "b:req")
    told = lab.settle()
    assert of("p/0", told) == [
        "prov-relation-created",
        *(f"prov-relation-{kind} b/{n}" for n in range(3) for kind in ("joined", "changed")),
    ]
    for unit in ("b/0", "b/1", "b/2"):
        assert of(unit, told) == [
            "req-relation-created",
            "req-relation-joined p/0",
            "req-relation-changed p/0",
        ]


def test_changed_comes_directly_after_joined_whatever_else_is_due(lab: Lab) -> None:
    lab.deploy("p")
    lab.deploy("b")
    lab.model.integrate("p:prov", "b:req")
    while lab.told[-1][1].kind != "relation-joined":
        lab.step("p/0")
        lab.step("b/0") if lab.told[-1][1].kind != "relation-joined" else None
    unit = lab.told[-1][0]
    lab.model.set_config(unit[0], {"s": "new"})
    lab.model.check(unit, "c1", "up", failed=True)
    due = events.due(lab.model, lab.model.find(unit), lab.now)
    assert [e.kind for e in due] == ["relation-changed"]


def test_a_late_unit_is_told_of_the_application_databag_first(pair: Lab) -> None:
    pair.exec("p/0", "relation-set -r prov:2 --app key=value")
    pair.settle()
    pair.model.scale("b", 4)
    pair.up("b")
    told = [it for it in of("b/3", pair.settle()) if "req" in it]
    assert told == [
        "req-relation-created",
        "req-relation-changed",
        "req-relation-joined p/0",
        "req-relation-changed p/0",
    ]


@pytest.mark.parametrize(
    ("writer", "command", "told"),
    [
        ("b/0", "relation-set -r req:2 a=1", ["p/0 prov-relation-changed b/0"]),
        (
            "p/0",
            "relation-set -r prov:2 --app a=1",
            [f"b/{n} req-relation-changed" for n in (0, 1, 2)],
        ),
        (
            "p/0",
            "relation-set -r prov:2 a=1",
            [f"b/{n} req-relation-changed p/0" for n in (0, 1, 2)],
        ),
        (
            "b/1",
            "relation-set -r ring:1 a=1",
            [f"b/{n} ring-relation-changed b/1" for n in (0, 2)],
        ),
        (
            "b/0",
            "relation-set -r ring:1 --app a=1",
            [f"b/{n} ring-relation-changed" for n in (0, 1, 2)],
        ),
    ],
)
def test_a_write_is_told_to_those_who_see_it(
    pair: Lab, writer: str, command: str, told: list[str]
) -> None:
    pair.exec(writer, command)
    assert sorted(pair.settle()) == told
    pair.exec(writer, command)
    assert pair.settle() == [], "the same value again"
    pair.exec(writer, command.replace("a=1", "a="))
    assert sorted(pair.settle()) == told, "a deletion is a change"


def test_several_writes_before_a_unit_looks_are_one_event(pair: Lab) -> None:
    pair.exec("b/0", "relation-set -r req:2 a=1")
    pair.exec("b/0", "relation-set -r req:2 a=2")
    assert pair.settle() == ["p/0 prov-relation-changed b/0"]


def test_a_removed_relation_departs_each_unit_and_breaks(pair: Lab) -> None:
    pair.model.remove_relation("p:prov", "b:req")
    told = pair.settle()
    assert of("p/0", told) == [
        *(f"prov-relation-departed b/{n}" for n in range(3)),
        "prov-relation-broken",
    ]
    assert of("b/2", told) == ["req-relation-departed p/0", "req-relation-broken"]
    assert 2 not in pair.model.relations


def test_what_ends_stays_readable_while_it_ends(pair: Lab) -> None:
    pair.exec("p/0", "relation-set -r prov:2 --app k=v", "relation-set -r prov:2 u=w")
    pair.settle()
    departed = pair.hook(
        "b/0",
        "req-relation-departed",
        "relation-list",
        "relation-get - p/0",
        "relation-get --app - p",
        "relation-ids req",
    )
    broken = pair.hook("b/0", "req-relation-broken", "relation-get --app - p", "relation-ids req")
    pair.model.remove_relation("b:req", "p:prov")
    pair.settle()
    assert [r.stdout for r in departed] == [
        "",
        "egress-subnets: 10.0.0.1/32\ningress-address: 10.0.0.1\nu: w\n",
        "k: v\n",
        "req:2\n",
    ]
    assert [r.stdout for r in broken] == ["k: v\n", "req:2\n"]


def test_a_unit_scaled_away_leaves_everything_and_the_others_see_it_go(pair: Lab) -> None:
    pair.model.scale("b", 2)
    told = pair.settle()
    leaver = of("b/2", told)
    assert leaver[0] == "data-storage-detaching"
    assert leaver[-2:] == ["stop", "remove"]
    assert sorted(leaver[1:-2]) == [
        "req-relation-broken",
        "req-relation-departed p/0 (b/2)",
        "ring-relation-departed b/0 (b/2)",
        "ring-relation-departed b/1 (b/2)",
    ]
    assert of("p/0", told) == ["prov-relation-departed b/2"]
    assert of("b/0", told) == ["ring-relation-departed b/2"]
    assert list(pair.model.applications["b"].units) == [0, 1]
    assert pair.model.storage["data/3"].unit == "", "its storage stays, detached"


def test_the_leader_that_is_scaled_away_leads_until_it_is_gone(lab: Lab) -> None:
    lab.deploy("b", 2)
    lab.model.pod_down("b/0")
    lab.now += 60
    lab.model.tick(lab.now)
    lab.pod("b/0", "another")
    assert "b/1 leader-elected" in lab.settle()
    lab.model.scale("b", 1)
    said = lab.hook("b/1", "ring-relation-departed", "is-leader", "goal-state --format json")
    told = lab.settle()
    assert said[0].stdout == "True\n"
    assert '"b/1":{"status":"dying"' in said[1].stdout
    assert told.index("b/1 remove") < told.index("b/0 leader-elected")


def test_a_removed_application_goes_as_the_contract_says(pair: Lab) -> None:
    pair.model.scale("b", 2)
    pair.settle()
    pair.model.remove_application("p")
    told = pair.settle()
    leaver = of("p/0", told)
    assert leaver[0] == "data-storage-detaching"
    assert leaver[-2:] == ["stop", "remove"]
    assert sorted(leaver[1:-2]) == [
        "prov-relation-broken",
        "prov-relation-departed b/0 (p/0)",
        "prov-relation-departed b/1 (p/0)",
        "ring-relation-broken",
    ]
    assert of("b/0", told) == ["req-relation-departed p/0", "req-relation-broken"]
    assert set(pair.model.applications) == {"b"}
    assert pair.model.storage["data/0"].unit == ""


def test_an_application_without_pods_goes_at_once_and_its_storage_when_asked(lab: Lab) -> None:
    lab.model.deploy("p", lab.charm, 2)
    lab.model.remove_application("p", destroy_storage=True)
    assert not lab.model.applications
    assert not lab.model.storage
    assert not lab.model.relations


def test_config_changed_comes_once_for_each_change_that_changes_something(lab: Lab) -> None:
    lab.deploy("p")
    for change, told in (
        ({"s": "new", "i": 8}, ["p/0 config-changed"]),
        ({"s": "new"}, []),
        ({"b": "true"}, ["p/0 config-changed"]),
    ):
        lab.model.set_config("p", change)
        assert lab.settle() == told
    lab.model.reset_config("p", ["s"])
    assert lab.settle() == ["p/0 config-changed"]
    lab.model.reset_config("p", ["s"])
    assert lab.settle() == []


def test_a_workload_container_that_restarts_is_ready_again(lab: Lab) -> None:
    lab.deploy("p")
    lab.model.pebble_gone("p/0", "c1")
    assert lab.settle() == []
    lab.model.pebble_ready("p/0", "c1")
    assert lab.settle() == ["p/0 c1-pebble-ready"]


def test_a_charm_container_that_restarts_stops_and_starts(lab: Lab) -> None:
    lab.deploy("p")
    lab.model.stopping("p/0")
    assert lab.settle() == ["p/0 stop"]
    lab.model.pod_down("p/0")
    lab.model.pod_up("p/0", "10.1.0.1", "pod-p/0")
    lab.model.notice("p/0", "c1", "1", "custom", "example.com/foo")
    lab.model.pebble_ready("p/0", "c2")
    assert lab.settle() == ["p/0 start", "p/0 c1-pebble-custom-notice", "p/0 c2-pebble-ready"]


def test_a_new_pod_upgrades_configures_and_starts_and_keeps_what_juju_keeps(lab: Lab) -> None:
    lab.deploy("p")
    lab.exec("p/0", "open-port 80", "state-set k=v", "status-set active fine")
    lab.model.stopping("p/0")
    assert lab.settle() == ["p/0 stop"]
    lab.model.pod_down("p/0")
    assert lab.settle() == []
    lab.pod("p/0", "another")
    seen = lab.hook("p/0", "config-changed", "status-get")
    assert lab.settle() == [
        "p/0 upgrade-charm",
        "p/0 config-changed",
        "p/0 start",
        "p/0 c1-pebble-ready",
        "p/0 c2-pebble-ready",
    ]
    assert seen[0].stdout == "maintenance\n"
    unit = lab.model.find("p/0")
    assert (unit.ports, unit.state, unit.workload.current) == (
        [("", "80/tcp")],
        {"k": "v"},
        "unknown",
    )


def test_what_happens_while_a_pod_is_away_is_told_when_it_is_back(pair: Lab) -> None:
    pair.model.pod_down("b/1")
    pair.exec("p/0", "relation-set -r prov:2 --app k=v")
    pair.model.set_config("b", {"s": "new"})
    assert of("b/1", pair.settle()) == []
    pair.pod("b/1", "another")
    told = of("b/1", pair.settle())
    assert told[:3] == ["upgrade-charm", "config-changed", "start"]
    assert "req-relation-changed" in told


def test_a_failing_hook_is_tried_again_after_5_10_and_20_seconds(lab: Lab) -> None:
    lab.deploy("p")
    lab.hook("p/0", "config-changed", code=1)
    lab.model.set_config("p", {"s": "new"})
    assert lab.settle() == ["p/0 config-changed"]
    for pause in (5.0, 10.0, 20.0):
        lab.now += pause - 0.1
        assert lab.settle() == []
        lab.now += 0.1
        assert lab.settle() == ["p/0 config-changed"]
    unit = lab.model.find("p/0")
    assert lab.model.unit_status(unit).message == 'hook failed: "config-changed"'
    assert lab.model.unit_status(unit).data == {"hook": "config-changed"}
    assert lab.model.application_status(lab.model.applications["p"]).current == "error"
    assert unit.agent.current == "idle"


def test_a_unit_in_error_is_told_nothing_else_but_runs_actions(lab: Lab) -> None:
    lab.deploy("p")
    lab.hook("p/0", "c1-pebble-check-failed", code=1)
    lab.model.check("p/0", "c1", "up", failed=True)
    lab.settle()
    lab.model.set_config("p", {"s": "new"})
    assert lab.settle() == []
    assert lab.out("p/0", "config-get s") == "new"
    lab.model.resolved("p/0", retry=False)
    assert lab.settle() == ["p/0 config-changed"]
    with pytest.raises(ModelError, match='unit "p/0" is not in an error state'):
        lab.model.resolved("p/0")


def test_a_failing_hook_loses_its_writes_but_not_its_status(pair: Lab) -> None:
    commands = (
        "relation-set -r req:2 k=v",
        "relation-set -r req:2 --app k=v",
        "secret-add abc=one --label L",
        "state-set k=v",
        "open-port 80",
        "status-set active keep",
        "application-version-set 9",
        "juju-log kept",
    )
    results = pair.hook("b/0", "config-changed", *commands, code=1)
    pair.model.set_config("b", {"s": "new"})
    told = pair.settle()
    assert {r.code for r in results} == {0}
    assert told == [f"b/{n} config-changed" for n in (0, 1, 2)]
    unit = pair.model.find("b/0")
    assert (pair.model.secrets, unit.ports, unit.state) == ({}, [], {})
    assert "k" not in pair.model.relations[2].bags["b/0"]
    assert pair.model.relations[2].bags["b"] == {}
    assert pair.model.applications["b"].version == "9"
    assert any("kept" in line for line in pair.log)
    del pair.hooks["b/0", "config-changed"]
    pair.model.resolved("b/0")
    assert pair.settle() == ["b/0 config-changed"]
    assert pair.model.unit_status(unit).message == "keep"


def test_a_relation_hook_that_fails_names_the_relation(pair: Lab) -> None:
    pair.hook("p/0", "prov-relation-changed", code=1)
    pair.exec("b/0", "relation-set -r req:2 k=v")
    pair.settle()
    status = pair.model.unit_status(pair.model.find("p/0"))
    assert status.message == 'hook failed: "prov-relation-changed" for b:prov'


def test_a_relation_removed_by_force_takes_its_failed_hook_with_it(pair: Lab) -> None:
    pair.hook("p/0", "prov-relation-changed", code=1)
    pair.exec("b/0", "relation-set -r req:2 k=v")
    pair.settle()
    pair.model.remove_relation("p:prov", "b:req", force=True)
    assert pair.model.unit_status(pair.model.find("p/0")).current != "error"


def test_another_unit_leads_when_the_leader_stays_away_for_a_minute(lab: Lab) -> None:
    lab.deploy("b", 3)
    lab.model.pod_down("b/0")
    lab.now += 59
    lab.model.tick(lab.now)
    assert lab.settle() == []
    assert lab.model.next_time() == lab.now + 1
    lab.now += 1
    lab.model.tick(lab.now)
    assert lab.settle() == ["b/1 leader-elected"]
    assert lab.model.unit_status(lab.model.find("b/0")).message.startswith("agent lost")
    lab.pod("b/0", "another")
    told = of("b/0", lab.settle())
    assert told[:3] == ["upgrade-charm", "config-changed", "start"]
    assert lab.out("b/0", "is-leader") == "False"


def test_a_leader_away_for_seconds_stays_the_leader_and_hears_of_it_once(lab: Lab) -> None:
    lab.deploy("b", 2)
    lab.model.pod_down("b/0")
    lab.now += 6
    lab.model.tick(lab.now)
    lab.pod("b/0", "another")
    assert "leader-elected" not in " ".join(lab.settle())
    assert lab.out("b/0", "is-leader") == "True"


def test_update_status_comes_again_and_again(lab: Lab) -> None:
    lab.deploy("p")
    unit = lab.model.find("p/0")
    for _ in range(3):
        assert 0.85 * 300 <= unit.update_at - lab.now <= 1.15 * 300
        lab.now = unit.update_at
        event = lab.model.next_event("p/0")
        assert event is not None
        assert event.kind == "update-status"
        HookContext(lab.model, "p/0", event).finish(0)


def test_an_event_that_was_begun_is_told_again_to_an_agent_that_comes_back(lab: Lab) -> None:
    lab.deploy("p")
    lab.model.set_config("p", {"s": "new"})
    event = lab.model.next_event("p/0")
    assert event is not None
    HookContext(lab.model, "p/0", event)
    lab.model.set_config("p", {"s": "newer"})
    restored = Model.from_json(lab.model.to_json())
    assert restored.next_event("p/0", lab.now) == event
    assert HookContext(restored, "p/0", event).finish(0) == ""
    assert restored.next_event("p/0", lab.now) == event, "what came meanwhile is told after it"


def test_an_action_whose_pod_goes_away_has_failed(lab: Lab) -> None:
    lab.deploy("p")
    task = lab.model.run_action("p/0", "ok", {})
    event = lab.model.next_event("p/0")
    assert event is not None
    HookContext(lab.model, "p/0", event)
    lab.model.pod_down("p/0")
    assert (task.status, task.message) == ("failed", "action terminated")
    lab.pod("p/0", "another")
    assert lab.settle()[0] == "p/0 upgrade-charm"


@pytest.mark.parametrize(
    ("hook", "variables"),
    [
        ("install", {"JUJU_HOOK_NAME": "install", "JUJU_DISPATCH_PATH": "hooks/install"}),
        (
            "ring-relation-created",
            {
                "JUJU_RELATION": "ring",
                "JUJU_RELATION_ID": "ring:0",
                "JUJU_REMOTE_APP": "p",
                "JUJU_REMOTE_UNIT": "",
            },
        ),
        ("c1-pebble-ready", {"JUJU_WORKLOAD_NAME": "c1"}),
        (
            "data-storage-attached",
            {
                "JUJU_STORAGE_ID": "data/0",
                "JUJU_STORAGE_KIND": "filesystem",
                "JUJU_STORAGE_LOCATION": "/var/lib/juju/storage/data-0",
            },
        ),
    ],
)
def test_a_hook_sees_in_its_environment_what_it_is_about(
    lab: Lab, hook: str, variables: dict[str, str]
) -> None:
    lab.deploy("p")
    (seen,) = (e for e in lab.environments if e["JUJU_HOOK_NAME"] == hook)
    assert variables.items() <= seen.items()
    assert seen["JUJU_UNIT_NAME"] == "p/0"
    assert seen["JUJU_CONTEXT_ID"].startswith(f"p/0-{hook}-")
    assert seen["PATH"].startswith("/var/lib/juju/tools/unit-p-0:")


def test_actions_and_exec_have_no_hook_name(lab: Lab) -> None:
    lab.deploy("p")
    lab.model.run_action("p/0", "ok", {})
    lab.settle()
    seen = lab.environments[-1]
    assert (seen["JUJU_HOOK_NAME"], seen["JUJU_DISPATCH_PATH"]) == ("", "actions/ok")
    assert seen["JUJU_ACTION_TAG"] == f"action-{seen['JUJU_ACTION_UUID']}"
    lab.model.exec("p/0", "true")
    lab.settle()
    assert "JUJU_DISPATCH_PATH" not in lab.environments[-1]


def test_a_hook_of_a_unit_removed_by_force_ends_in_nothing(pair: Lab) -> None:
    pair.exec("p/0", "relation-set -r prov:2 k=v")
    event = pair.model.next_event("b/1")
    assert event is not None
    context = HookContext(pair.model, "b/1", event)
    context.run(["relation-set", "-r", "2", "k=v"])
    pair.model.remove_application("b", force=True)
    assert context.finish(0) == ""
    assert "b" not in pair.model.applications or not pair.model.applications["b"].units


def test_a_failed_remove_that_is_skipped_ends_the_application(lab: Lab) -> None:
    lab.deploy("p")
    lab.hook("p/0", "remove", code=1)
    lab.model.remove_application("p")
    lab.settle()
    lab.model.resolved("p/0", retry=False)
    assert not lab.model.applications


def test_a_stop_that_fails_is_over_with_its_pod(lab: Lab) -> None:
    lab.deploy("p")
    lab.hook("p/0", "stop", code=1)
    lab.model.stopping("p/0")
    assert lab.settle() == ["p/0 stop"]
    lab.model.pod_down("p/0")
    lab.pod("p/0", "another")
    assert lab.settle()[0] == "p/0 upgrade-charm"
