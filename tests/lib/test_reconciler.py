"""The reconciler's promises, kept by the sample charm; most were learnt on real Juju."""

import dataclasses
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import ops
import pytest
from ops import testing
from scenario import mocking

sys.path.insert(0, str(Path(__file__).parent))
import sample

from katonic import workload
from tests import kubernetes_in_memory
from tests.kubernetes_in_memory import Cluster

FAR = testing.Secret({"username": "sample", "password": "far-password"}, id="secret:far00000")
FAR_BAG = {"endpoint": "db:5432", "secret-user": "secret:far00000"}
ANSWERS = (
    testing.Exec(["prepare"]),
    testing.Exec(["migrate"]),
    testing.Exec(["answers"]),
)


@pytest.fixture(autouse=True)
def _quiet_world() -> None:
    sample.world.clear()


@pytest.fixture
def ctx() -> testing.Context:
    return testing.Context(
        sample.SampleCharm, meta=sample.META, config=sample.CONFIG, actions=sample.ACTIONS
    )


@pytest.fixture
def complete(tmp_path: Path) -> testing.State:
    files = testing.Mount(location="/charm/container", source=tmp_path)
    return testing.State(
        leader=True,
        model=testing.Model("lab", type="kubernetes"),
        planned_units=1,
        containers={
            testing.Container(
                "box", can_connect=True, execs=frozenset(ANSWERS), mounts={"files": files}
            )
        },
        relations={
            testing.Relation("database", id=1, remote_app_name="db", remote_app_data=FAR_BAG),
            testing.Relation(
                "access", id=2, remote_app_name="user", remote_app_data={"database": "d"}
            ),
            testing.PeerRelation("peers", id=3),
        },
        secrets={FAR},
    )


def answering(state: testing.State, *execs: testing.Exec) -> testing.State:
    return with_box(state, execs=frozenset(execs))


def with_box(state: testing.State, **changes: object) -> testing.State:
    box = dataclasses.replace(state.get_container("box"), **changes)  # pyright: ignore
    return dataclasses.replace(state, containers={box})


def without(state: testing.State, relation_id: int) -> testing.State:
    kept = {it for it in state.relations if it.id != relation_id}
    return dataclasses.replace(state, relations=kept)


def saying(state: testing.State, relation_id: int, bag: dict[str, str]) -> testing.State:
    relation = dataclasses.replace(state.get_relation(relation_id), remote_app_data=bag)
    others = without(state, relation_id).relations
    return dataclasses.replace(state, relations={*others, relation})


def service(state: testing.State) -> ops.pebble.Service:
    return state.get_container("box").plan.services["server"]


def is_running(state: testing.State, name: str = "server") -> bool:
    statuses = state.get_container("box").service_statuses
    return statuses.get(name) is ops.pebble.ServiceStatus.ACTIVE


def changes(ctx: testing.Context) -> list[str]:
    said = [it.message for it in ctx.juju_log if it.level == "INFO"]
    ctx.juju_log.clear()
    return said


def offered(state: testing.State) -> dict[str, str]:
    return dict(state.get_relation(2).local_app_data)


def sealed(state: testing.State) -> dict[str, str]:
    uri = offered(state)["secret-user"]
    secret = next(it for it in state.secrets if it.id == uri)
    return dict(secret.latest_content or secret.tracked_content or {})


def test_it_runs_offers_and_is_active_when_all_is_there(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    assert out.unit_status == ops.ActiveStatus()
    assert is_running(out)
    assert offered(out)["endpoint"] == "sample:7001"
    assert sealed(out)["username"] == "d"
    assert out.get_relation(1).local_app_data == {"database": "sample"}
    assert out.opened_ports == {testing.TCPPort(7001)}


def test_a_second_run_changes_nothing_and_says_so(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    changes(ctx)
    again = ctx.run(ctx.on.update_status(), out)
    assert not changes(ctx)
    assert again.get_container("box").plan == out.get_container("box").plan
    assert {it.id for it in again.secrets} == {it.id for it in out.secrets}


def test_a_plan_with_pebbles_own_defaults_is_the_same_plan(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    layers = {}
    for name, layer in out.get_container("box").layers.items():
        layers[name] = ops.pebble.Layer(layer.to_dict())
        for check in layers[name].checks.values():
            check.startup = ops.pebble.CheckStartup.ENABLED
    changes(ctx)
    ctx.run(ctx.on.update_status(), with_box(out, layers=layers))
    assert not changes(ctx)


@pytest.mark.parametrize(("seconds", "shown"), [(10, "10s"), (60, "1m0s"), (90, "1m30s")])
def test_a_duration_is_written_as_pebble_shows_it(seconds, shown):
    assert workload._duration(seconds) == shown


@pytest.mark.parametrize("value", [0, 10])
def test_a_bad_option_touches_nothing_and_is_named(ctx, complete, value):
    out = ctx.run(ctx.on.config_changed(), complete)
    bad = dataclasses.replace(out, config={"level": value})
    after = ctx.run(ctx.on.config_changed(), bad)
    assert isinstance(after.unit_status, ops.BlockedStatus)
    assert f"level={value}" in after.unit_status.message
    assert "1 to 9" in after.unit_status.message
    assert is_running(after)
    assert offered(after) == offered(out)
    assert after.opened_ports == out.opened_ports


def test_bad_relation_data_touches_nothing_and_is_named(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    odd = saying(out, 1, {**FAR_BAG, "weight": "heavy"})
    after = ctx.run(ctx.on.relation_changed(odd.get_relation(1)), odd)
    assert isinstance(after.unit_status, ops.BlockedStatus)
    assert "database from db: weight=heavy" in after.unit_status.message
    assert is_running(after)
    assert offered(after) == offered(out)


def test_a_secret_that_cannot_be_read_holds_what_runs(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    hidden = dataclasses.replace(out, secrets={it for it in out.secrets if it.id != FAR.id})
    after = ctx.run(ctx.on.update_status(), hidden)
    assert isinstance(after.unit_status, ops.WaitingStatus)
    assert "database" in after.unit_status.message
    assert is_running(after)
    assert offered(after) == offered(out)


def test_an_emptied_databag_stops_the_workload(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    empty = saying(out, 1, {})
    after = ctx.run(ctx.on.relation_changed(empty.get_relation(1)), empty)
    assert after.unit_status == ops.WaitingStatus("waiting for database data")
    assert not is_running(after)
    assert not offered(after)


def test_a_missing_endpoint_is_named_and_nothing_runs(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), without(complete, 1))
    assert out.unit_status == ops.BlockedStatus("integrate database")
    assert not out.get_container("box").plan.services


def test_asks_go_out_while_a_step_is_held_up_and_ports_are_open(ctx, complete):
    failing = testing.Exec(["prepare"], return_code=1, stderr="a\nno such database\n")
    out = ctx.run(ctx.on.config_changed(), answering(complete, failing, testing.Exec(["migrate"])))
    assert out.unit_status == ops.WaitingStatus("prepare: no such database")
    assert out.get_relation(1).local_app_data == {"database": "sample"}
    assert out.opened_ports == {testing.TCPPort(7001)}
    assert not offered(out)
    assert is_running(out, "notify-retry")


def test_nothing_is_offered_before_the_workload_answers(ctx, complete):
    mute = answering(
        complete,
        testing.Exec(["prepare"]),
        testing.Exec(["migrate"]),
        testing.Exec(["answers"], return_code=1),
    )
    out = ctx.run(ctx.on.config_changed(), mute)
    assert out.unit_status == ops.WaitingStatus("server is starting")
    assert not offered(out)
    assert not sample.world
    assert is_running(out, "notify-ready")
    plan = out.get_container("box").plan
    assert plan.services["notify-ready"].startup == "disabled"
    assert plan.checks["server"].level is ops.pebble.CheckLevel.READY
    after = ctx.run(ctx.on.update_status(), answering(out, *ANSWERS))
    assert after.unit_status == ops.ActiveStatus()
    assert offered(after)


def test_no_status_is_told_before_anything_was_applied(ctx, complete):
    out = ctx.run(ctx.on.install(), complete)
    assert out.unit_status == ops.UnknownStatus()
    out = ctx.run(ctx.on.stop(), dataclasses.replace(complete, unit_status=ops.ActiveStatus()))
    assert out.unit_status == ops.ActiveStatus()


def test_without_pebble_it_waits(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), with_box(complete, can_connect=False))
    assert out.unit_status == ops.WaitingStatus("waiting for Pebble in box")


def test_a_changed_file_restarts_what_reads_it_even_if_the_hook_died_after_writing(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    before = service(out).environment["KATONIC_DIGEST"]
    root = out.get_container("box").get_filesystem(ctx)
    (root / "charm/container/katonic/level").write_text("2")  # pushed, and then the hook died
    after = ctx.run(ctx.on.config_changed(), dataclasses.replace(out, config={"level": 2}))
    assert service(after).environment["KATONIC_DIGEST"] != before


def test_a_rotated_password_restarts_the_service_and_repeats_no_step(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    before = service(out).environment["KATONIC_DIGEST"]
    new = dataclasses.replace(FAR, latest_content={"username": "sample", "password": "new-one"})
    rotated = dataclasses.replace(
        out, secrets={*(it for it in out.secrets if it.id != FAR.id), new}
    )
    ctx.exec_history.clear()
    after = ctx.run(ctx.on.secret_changed(new), rotated)
    assert service(after).environment["KATONIC_DIGEST"] != before
    assert [it.command for it in ctx.exec_history["box"]] == [["answers"]]


def test_no_secret_is_in_pebbles_plan(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    assert "far-password" not in str(out.get_container("box").plan.to_dict())
    root = out.get_container("box").get_filesystem(ctx)
    secrets = root / "charm/container/katonic/server.env"
    assert secrets.read_text() == "export PASSWORD=far-password\n"


def test_only_the_leader_migrates_and_once_for_all(ctx, complete):
    follower = dataclasses.replace(complete, leader=False, planned_units=2)
    out = ctx.run(ctx.on.config_changed(), follower)
    assert out.unit_status == ops.WaitingStatus("waiting for the leader to migrate")
    assert not is_running(out)
    leader = ctx.run(ctx.on.config_changed(), complete)
    done = leader.get_relation(3).local_app_data
    assert done == {"step-migrate": "1"}
    ctx.exec_history.clear()
    peers = testing.PeerRelation("peers", id=3, local_app_data=done)
    told = dataclasses.replace(
        follower, relations={*(it for it in follower.relations if it.id != 3), peers}
    )
    out = ctx.run(ctx.on.config_changed(), told)
    assert out.unit_status == ops.ActiveStatus()
    assert ["migrate"] not in [it.command for it in ctx.exec_history["box"]]


def test_a_follower_publishes_nothing_and_does_nothing_to_the_world(ctx, complete):
    done = testing.PeerRelation("peers", id=3, local_app_data={"step-migrate": "1"})
    follower = dataclasses.replace(
        complete,
        leader=False,
        planned_units=2,
        relations={*without(complete, 3).relations, done},
    )
    out = ctx.run(ctx.on.config_changed(), follower)
    assert out.unit_status == ops.ActiveStatus()
    assert not offered(out)
    assert not out.get_relation(1).local_app_data
    assert not sample.world


def test_the_end_of_a_relation_takes_its_secret_away(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    uri = offered(out)["secret-user"]
    after = ctx.run(ctx.on.relation_broken(out.get_relation(2)), out)
    assert uri not in {it.id for it in after.secrets}


def test_a_unit_that_is_scaled_away_takes_nothing_away(complete):
    ctx = testing.Context(
        sample.SampleCharm,
        meta=sample.META,
        config=sample.CONFIG,
        actions=sample.ACTIONS,
        unit_id=1,
    )
    both = ctx.run(ctx.on.config_changed(), dataclasses.replace(complete, planned_units=2))
    told = list(sample.world)
    leaving = dataclasses.replace(both, planned_units=1)
    after = ctx.run(ctx.on.relation_broken(leaving.get_relation(2)), leaving)
    assert offered(both)["secret-user"] in {it.id for it in after.secrets}
    assert sample.world == told


def test_an_action_that_rotates_is_applied_in_its_own_dispatch(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    old = sealed(out)["password"]
    after = ctx.run(ctx.on.action("rotate"), out)
    new = sealed(after)["password"]
    assert new != old
    assert sample.world == [new]


def test_a_secret_revision_that_nobody_uses_is_removed(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    out = ctx.run(ctx.on.action("rotate"), out)
    seed = next(it for it in out.secrets if it.label == "seed")
    ctx.run(ctx.on.secret_remove(seed, revision=1), out)
    assert ctx.removed_secret_revisions == [1]


def test_what_changed_is_said_for_secrets_and_effects_too(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    assert "told the world" in changes(ctx)[-1]
    ctx.run(ctx.on.action("rotate"), out)
    said = changes(ctx)[-1]
    assert "access:2 secret-user (content)" in said
    assert "told the world" in said


def test_no_log_line_and_no_shown_plan_holds_a_secret(ctx, complete, caplog):
    caplog.set_level(logging.DEBUG)
    out = ctx.run(ctx.on.config_changed(), complete)
    ctx.run(ctx.on.action("show-plan"), out)
    shown = str(ctx.action_results)
    assert "serve --forever" in shown
    said = shown + caplog.text + "".join(it.message for it in ctx.juju_log)
    secrets = {"far-password", sealed(out)["password"]}
    assert not [it for it in secrets if it in said]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.deployed("lab", "sample", {"box": "box:1"}, 1)
    with kubernetes_in_memory.serve(cluster):
        yield cluster


def noting(state: testing.State, text: str) -> testing.State:
    return dataclasses.replace(state, config={"note": text})


def test_an_object_is_applied_and_goes_when_it_is_no_longer_wanted(ctx, complete, cluster):
    noted = ctx.run(ctx.on.config_changed(), noting(complete, "hello"))
    assert cluster.applied["ConfigMap note"]["data"] == {"text": "hello"}
    assert not [it.message for it in ctx.juju_log if "127.0.0.1" in it.message]
    changes(ctx)
    again = ctx.run(ctx.on.update_status(), noted)
    assert not changes(ctx)
    after = ctx.run(ctx.on.config_changed(), noting(again, ""))
    assert not cluster.applied
    assert after.unit_status == ops.ActiveStatus()
    cluster.calls.clear()
    ctx.run(ctx.on.update_status(), after)
    assert not cluster.calls


def test_who_has_had_no_object_needs_no_trust(ctx, complete, cluster):
    cluster.refuses = 403
    out = ctx.run(ctx.on.config_changed(), complete)
    assert out.unit_status == ops.ActiveStatus()
    assert not cluster.calls


def test_without_trust_it_says_so_and_what_runs_goes_on(ctx, complete, cluster):
    out = ctx.run(ctx.on.config_changed(), complete)
    cluster.refuses = 403
    after = ctx.run(ctx.on.config_changed(), noting(out, "hello"))
    assert after.unit_status == ops.BlockedStatus("run: juju trust sample --scope=cluster")
    assert is_running(after)
    assert offered(after) == offered(out)
    assert is_running(after, "notify-retry"), "no event tells that it has been trusted"


def test_what_was_applied_when_it_went_wrong_half_way_is_still_taken_away(ctx, complete, cluster):
    cluster.refuses = 503
    out = ctx.run(ctx.on.config_changed(), noting(complete, "hello"))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    cluster.refuses = 0
    noted = ctx.run(ctx.on.config_changed(), noting(complete, "hello"))
    forgetful = dataclasses.replace(noted, relations=out.relations)
    ctx.run(ctx.on.config_changed(), noting(forgetful, ""))
    assert not cluster.applied


def test_only_the_leader_applies_and_prunes(ctx, complete, cluster):
    noted = ctx.run(ctx.on.config_changed(), noting(complete, "hello"))
    cluster.calls.clear()
    follower = dataclasses.replace(noting(noted, ""), leader=False, planned_units=2)
    ctx.run(ctx.on.config_changed(), follower)
    assert not cluster.calls


def test_show_plan_names_the_objects(ctx, complete, cluster):
    out = ctx.run(ctx.on.config_changed(), noting(complete, "hello"))
    ctx.run(ctx.on.action("show-plan"), out)
    assert "- ConfigMap note\n" in ctx.action_results["plan"]


def test_the_restart_action_restarts_the_services(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    after = ctx.run(ctx.on.action("restart"), out)
    assert is_running(after)
    assert after.unit_status == ops.ActiveStatus()


def test_the_checks_of_a_stopped_service_are_stopped(ctx, complete):
    out = ctx.run(ctx.on.config_changed(), complete)
    checked = with_box(
        out,
        check_infos=frozenset(
            {
                testing.CheckInfo(
                    "server", level=ops.pebble.CheckLevel.READY, status=ops.pebble.CheckStatus.UP
                )
            }
        ),
    )
    after = ctx.run(
        ctx.on.relation_changed(saying(checked, 1, {}).get_relation(1)), saying(checked, 1, {})
    )
    (check,) = after.get_container("box").check_infos
    assert check.status is ops.pebble.CheckStatus.INACTIVE


def test_each_secret_is_read_once_in_a_dispatch(ctx, complete, monkeypatch):
    out = ctx.run(ctx.on.config_changed(), complete)
    reads: list[str] = []
    original = mocking._MockModelBackend.secret_get

    def recorded(self, **words):
        reads.append(words.get("id") or words.get("label") or "")
        return original(self, **words)

    monkeypatch.setattr(mocking._MockModelBackend, "secret_get", recorded)
    ctx.run(ctx.on.update_status(), out)
    assert sorted(reads) == ["secret:far00000", "seed"]  # what is offered is compared unread


def test_the_reason_of_a_failed_change_is_its_second_line():
    text = 'cannot perform the following tasks:\n- Start service "server" (exited quickly)\n'
    change = ops.pebble.Change.from_dict(
        {
            "id": "1",
            "kind": "replan",
            "summary": "",
            "status": "Error",
            "ready": True,
            "spawn-time": "2026-11-22T23:06:30Z",
        }
    )
    error = ops.pebble.ChangeError(text, change)
    assert workload.reason(error) == 'Start service "server" (exited quickly)'


@pytest.mark.parametrize("code", [400, 404])
def test_what_pebble_understands_and_refuses_is_a_bug_and_raised(ctx, complete, monkeypatch, code):
    refuse_to_plan(monkeypatch, ops.pebble.APIError({}, code, "no", "a bad layer"))
    with pytest.raises(testing.errors.UncaughtCharmError, match="a bad layer"):
        ctx.run(ctx.on.config_changed(), complete)


@pytest.mark.parametrize(
    "error",
    [ops.pebble.APIError({}, 503, "no", "not now"), TimeoutError("not now")],
    ids=["it says so", "its socket is silent"],
)
def test_a_pebble_that_fails_for_now_is_waited_for(ctx, complete, monkeypatch, error):
    refuse_to_plan(monkeypatch, error)
    out = ctx.run(ctx.on.config_changed(), complete)
    assert out.unit_status == ops.WaitingStatus("not now")


def test_a_path_that_the_image_does_not_let_us_write_is_a_bug_and_raised(
    ctx, complete, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise ops.pebble.PathError("permission-denied", "read-only file system")

    monkeypatch.setattr(mocking._MockPebbleClient, "push", refuse)
    with pytest.raises(testing.errors.UncaughtCharmError, match="read-only"):
        ctx.run(ctx.on.config_changed(), complete)


def refuse_to_plan(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Have the Pebble of ops.testing refuse each layer."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(mocking._MockPebbleClient, "add_layer", refuse)
