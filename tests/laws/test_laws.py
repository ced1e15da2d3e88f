"""What every charm obeys, none named here: a new charm is under the law from its first day."""

import dataclasses
import itertools
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import ops
import pytest
from ops import testing

sys.path.insert(0, str(Path(__file__).parent))
import every_charm

from tests import kubernetes_in_memory
from tests.kubernetes_in_memory import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    with kubernetes_in_memory.serve(cluster):
        yield cluster


@pytest.fixture(params=every_charm.NAMES)
def charm(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[every_charm.Charm]:
    loaded = every_charm.load(request.param)
    cluster.deployed(every_charm.MODEL, loaded.name, loaded.images, units=2)
    with loaded.serve():
        yield loaded


@pytest.fixture
def state(charm: every_charm.Charm, tmp_path: Path) -> testing.State:
    return charm.complete(tmp_path)


@pytest.fixture
def settled(charm: every_charm.Charm, state: testing.State) -> testing.State:
    """Return the state once the charm has done all it can."""
    ctx = charm.context()
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.ActiveStatus), out.unit_status
    return out


def services(state: testing.State) -> dict[str, ops.pebble.ServiceStatus]:
    return {
        name: status
        for container in state.containers
        for name, status in container.service_statuses.items()
        if not name.startswith("notify-")
    }


def running(state: testing.State) -> set[str]:
    return {name for name, it in services(state).items() if it is ops.pebble.ServiceStatus.ACTIVE}


def said(state: testing.State) -> dict[str, dict[str, str]]:
    """Return what the application says to whom, secrets by their label instead of their id."""
    labels = {it.id: it.label for it in state.secrets if it.owner}
    return {
        f"{it.endpoint}:{it.id}": {
            key: labels.get(value.strip('"')) or value for key, value in it.local_app_data.items()
        }
        for it in state.relations
    }


def replaced(state: testing.State, endpoint: str, **changes: object) -> testing.State:
    relations = {
        dataclasses.replace(it, **changes) if it.endpoint == endpoint else it  # pyright: ignore
        for it in state.relations
    }
    return dataclasses.replace(state, relations=relations)


def without(state: testing.State, endpoint: str) -> testing.State:
    kept = {it for it in state.relations if it.endpoint != endpoint}
    return dataclasses.replace(state, relations=kept)


def test_complete_it_is_active_and_runs(charm, settled):
    assert running(settled)


def test_a_second_run_changes_nothing(charm, settled):
    ctx = charm.context()
    after = ctx.run(ctx.on.update_status(), settled)
    assert [it.message for it in ctx.juju_log if it.level == "INFO"] == []
    assert said(after) == said(settled)
    assert after.unit_status == settled.unit_status


def test_each_missing_requirement_is_named_and_nothing_runs_that_needs_it(charm, state):
    for endpoint in charm.required:
        ctx = charm.context()
        out = ctx.run(ctx.on.config_changed(), without(state, endpoint))
        assert out.unit_status == ops.BlockedStatus(f"integrate {endpoint}")
        assert bool(running(out)) == (endpoint in charm.goes_on_without)


def test_each_empty_requirement_is_waited_for_and_nothing_runs_that_needs_it(charm, state):
    for endpoint in charm.required:
        ctx = charm.context()
        silent = replaced(state, endpoint, remote_app_data={}, remote_units_data={0: {}})
        out = ctx.run(ctx.on.config_changed(), silent)
        assert out.unit_status == ops.WaitingStatus(f"waiting for {endpoint} data")
        assert bool(running(out)) == (endpoint in charm.goes_on_without)


def test_an_unreadable_secret_holds_what_runs(charm, settled):
    for endpoint in charm.required:
        far = {
            value
            for it in settled.relations
            if it.endpoint == endpoint and isinstance(it, testing.Relation)
            for value in it.remote_app_data.values()
        }
        hidden = {it for it in settled.secrets if it.id not in far}
        if len(hidden) == len(settled.secrets):
            continue
        ctx = charm.context()
        out = ctx.run(ctx.on.update_status(), dataclasses.replace(settled, secrets=hidden))
        assert isinstance(out.unit_status, ops.WaitingStatus)
        assert endpoint in out.unit_status.message
        assert running(out) == running(settled)
        assert said(out).keys() == said(settled).keys()


def test_a_bad_option_is_named_and_touches_nothing(charm, settled):
    options = (charm.metadata.get("config") or {}).get("options", {})
    for name in [name for name, it in options.items() if it["type"] in ("int", "float")]:
        ctx = charm.context()
        bad = dataclasses.replace(settled, config={name: -987654321})
        out = ctx.run(ctx.on.config_changed(), bad)
        assert isinstance(out.unit_status, ops.BlockedStatus), name
        assert f"{name}=-987654321" in out.unit_status.message
        assert "allowed" in out.unit_status.message
        assert running(out) == running(settled)
        assert said(out) == said(settled)


def test_without_pebble_it_waits(charm, state):
    deaf = {dataclasses.replace(it, can_connect=False) for it in state.containers}
    ctx = charm.context()
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, containers=deaf))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "Pebble" in out.unit_status.message


def test_a_follower_publishes_nothing(charm, state):
    ctx = charm.context(unit=1)
    follower = dataclasses.replace(state, leader=False, planned_units=2)
    out = ctx.run(ctx.on.config_changed(), follower)
    assert not any(it.local_app_data for it in out.relations)
    assert not [it for it in out.secrets if it.owner]


def test_a_unit_that_leaves_takes_nothing_from_those_that_stay(charm, settled):
    ctx = charm.context(unit=1)
    leaving = dataclasses.replace(settled, planned_units=1)
    for relation in settled.relations:
        if isinstance(relation, testing.PeerRelation):
            continue
        out = ctx.run(ctx.on.relation_broken(leaving.get_relation(relation.id)), leaving)
        assert {it.id for it in out.secrets} == {it.id for it in settled.secrets}


def test_the_end_of_a_relation_takes_its_secrets_away(charm, settled):
    for relation in settled.relations:
        if relation.endpoint not in charm.metadata.get("provides", {}):
            continue
        sealed = {it.strip('"') for it in relation.local_app_data.values() if "secret:" in it}
        ctx = charm.context()
        out = ctx.run(ctx.on.relation_broken(settled.get_relation(relation.id)), settled)
        assert not sealed & {it.id for it in out.secrets}


def test_the_end_of_a_requirement_stops_what_needs_it(charm, settled):
    for endpoint in charm.required:
        (relation,) = (it for it in settled.relations if it.endpoint == endpoint)
        ctx = charm.context()
        out = ctx.run(ctx.on.relation_broken(relation), settled)
        assert out.unit_status == ops.BlockedStatus(f"integrate {endpoint}")
        assert bool(running(out)) == (endpoint in charm.goes_on_without)


def test_the_order_in_which_relations_come_does_not_matter(charm, state, tmp_path, monkeypatch):
    # What is made by chance, and what is derived of it in the open, is the same each time.
    monkeypatch.setattr("secrets.token_bytes", lambda size=32: bytes(size))
    seen = set()
    for number, order in enumerate(orders(sorted(state.relations, key=_endpoint))):
        ctx = charm.context()
        now = fresh(state, tmp_path / str(number))
        for relation in order:
            now = dataclasses.replace(now, relations={*now.relations, relation})
            event = ctx.on.relation_created(now.get_relation(relation.id))
            now = ctx.run(event, now)
        now = ctx.run(ctx.on.update_status(), now)
        seen.add(json.dumps([str(now.unit_status), said(now), sorted(running(now))]))
    assert len(seen) == 1, seen


def orders(relations: list[testing.RelationBase]) -> Iterable[Sequence[testing.RelationBase]]:
    """Return all orders of up to four; of more, so many that each is first in some, and last.

    Of any two relations, either comes before the other in at least one of them.
    """
    if len(relations) <= 4:
        return itertools.permutations(relations)
    turned = [[*relations[it:], *relations[:it]] for it in range(len(relations))]
    return [it for order in turned for it in (order, order[::-1])]


def fresh(state: testing.State, scratch: Path) -> testing.State:
    """Return the state without relations, in containers that have not run anything."""
    scratch.mkdir()
    containers = {
        dataclasses.replace(it, mounts={"files": every_charm.mount(scratch / it.name)})
        for it in state.containers
    }
    return dataclasses.replace(state, relations=frozenset(), containers=containers)


def _endpoint(relation: testing.RelationBase) -> str:
    return relation.endpoint


def test_no_secret_is_in_the_open(charm, state, caplog):
    caplog.set_level(logging.DEBUG)
    ctx = charm.context()
    out = ctx.run(ctx.on.config_changed(), state)
    open_now = [json.dumps(said(out)), str(out.unit_status), caplog.text]
    open_now += [it.message for it in ctx.juju_log]
    open_now += [json.dumps(it.plan.to_dict()) for it in out.containers]
    open_now += [str(it.command) for seen in ctx.exec_history.values() for it in seen]
    ctx.run(ctx.on.action("show-plan"), out)
    open_now += [json.dumps(ctx.action_results)]
    hidden = secret_values(out)
    assert [it for it in hidden if any(it in text for text in open_now)] == []


def secret_values(state: testing.State) -> set[str]:
    """Return what must not be seen: the values of secrets, user names and the like apart."""
    names = {"username", "database", "generations", "access-key", "tls", "version", "endpoints"}
    return {
        value
        for secret in state.secrets
        for key, value in (secret.latest_content or secret.tracked_content or {}).items()
        if key not in names and len(value) > 6
    }


def test_show_plan_shows_the_plan(charm, settled):
    ctx = charm.context()
    ctx.run(ctx.on.action("show-plan"), settled)
    assert ctx.action_results is not None
    assert all(name in ctx.action_results["plan"] for name in running(settled))


def test_restart_restarts_and_it_is_active_again(charm, settled):
    ctx = charm.context()
    out = ctx.run(ctx.on.action("restart"), settled)
    assert running(out) == running(settled)
    assert out.unit_status == settled.unit_status


def test_without_trust_who_needs_it_says_so_and_what_runs_goes_on(charm, settled, cluster):
    if not cluster.applied:
        return
    cluster.refuses = 403
    ctx = charm.context()
    out = ctx.run(ctx.on.update_status(), settled)
    assert out.unit_status == ops.BlockedStatus(f"run: juju trust {charm.name} --scope=cluster")
    assert running(out) == running(settled)
    assert said(out) == said(settled)


def test_while_kubernetes_does_not_answer_it_waits_and_what_runs_goes_on(charm, settled, cluster):
    if not cluster.applied:
        return
    cluster.refuses = 503
    ctx = charm.context()
    out = ctx.run(ctx.on.update_status(), settled)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "kubernetes answers 503" in out.unit_status.message
    assert running(out) == running(settled)
    assert said(out) == said(settled)


def test_what_it_applies_goes_with_it_and_a_follower_applies_nothing(charm, settled, cluster):
    cluster.removed(every_charm.MODEL, charm.name)
    assert not cluster.applied
    ctx = charm.context(unit=1)
    ctx.run(ctx.on.update_status(), dataclasses.replace(settled, leader=False, planned_units=2))
    assert not cluster.applied


def test_nothing_is_told_at_install_and_at_the_end(charm, state):
    for event in ("install", "stop", "remove"):
        ctx = charm.context()
        out = ctx.run(getattr(ctx.on, event)(), state)
        assert out.unit_status == ops.UnknownStatus()
