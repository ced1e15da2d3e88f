import dataclasses
import importlib.util
import sys
from pathlib import Path

import ops
import pytest
import yaml
from ops import testing

from interfaces.postgresql_client import Provider, Request, Requirer
from katonic import FILES, Invalid, NotYet

ROOT = Path(__file__).parents[1]
BIN = "/usr/lib/postgresql/15/bin"


def load(name):
    """Every charm has a module of the name `charm`, so none of them is imported by that name."""
    spec = importlib.util.spec_from_file_location(f"postgresql.{name}", ROOT / f"src/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


postgresql = load("postgresql")
sys.modules["postgresql"] = postgresql
charm = load("charm")
del sys.modules["postgresql"]

OPTIONS = charm.Options(max_connections=100)
EMPTY = charm.State(
    unit=0,
    host="postgresql.lab.svc.cluster.local",
    options=OPTIONS,
    memory=1024,
    asked={},
    applications={},
    passwords={},
    owners={"postgres": "", "template0": "", "template1": ""},
)


def asking(state=EMPTY, **databases):
    """Return the state with a relation for each application, `app=database` or `app=Requirer`."""
    asked, applications = {}, {}
    for number, (app, it) in enumerate(databases.items(), start=5):
        asked[number] = Requirer(database=it) if isinstance(it, str) else it
        applications[number] = app
    roles = [role for number, it in asked.items() for role in postgresql.roles(number, it)]
    return dataclasses.replace(
        state,
        asked=asked,
        applications=applications,
        passwords={role: f"password-of-{role}" for role in roles},
    )


def refusal(state):
    status = charm.plan(state).status
    assert isinstance(status, ops.BlockedStatus)
    return status.message


def test_each_relation_gets_a_role_and_a_password_of_its_own():
    plan = charm.plan(asking(mlflow="mlflow", keycloak="keycloak"))
    assert plan.status is None
    mlflow, keycloak = (plan.offers["database"][it] for it in (5, 6))
    assert isinstance(mlflow, Provider)
    assert (mlflow.database, mlflow.username) == ("mlflow", "relation_id_5")
    assert (keycloak.database, keycloak.username) == ("keycloak", "relation_id_6")
    assert mlflow.password != keycloak.password
    assert mlflow.uris == (
        "postgresql://relation_id_5:password-of-relation_id_5"
        "@postgresql.lab.svc.cluster.local:5432/mlflow"
    )


def test_a_database_of_another_application_is_refused_and_the_others_are_served():
    state = asking(mlflow="mlflow", thief="mlflow", keycloak="keycloak")
    assert refusal(state) == (
        "thief asks for database=mlflow, which is mlflow's: ask for another name"
    )
    plan = charm.plan(state)
    assert plan.offers["database"].keys() == {5, 7}
    ((logins, silent),) = [it.args for it in plan.effects]
    assert [client.application for client in logins] == ["mlflow", "keycloak"]
    assert silent == [6]


def test_a_kept_database_is_given_to_its_application_alone():
    kept = dataclasses.replace(EMPTY, owners={**EMPTY.owners, "mlflow": "mlflow"})
    assert charm.plan(asking(kept, mlflow="mlflow")).status is None
    assert "thief asks for database=mlflow" in refusal(asking(kept, thief="mlflow"))


def test_two_relations_of_one_application_may_share_a_database():
    asked = {5: Requirer(database="shared"), 6: Requirer(database="shared")}
    clients, refusals = postgresql.clients(asked, {5: "app", 6: "app"}, {})
    assert not refusals
    assert [it.role for (it,) in clients.values()] == ["relation_id_5", "relation_id_6"]


@pytest.mark.parametrize("name", ["postgres", "template1", "", "a b", "x" * 58, "-x", 'x"y'])
def test_a_name_that_no_client_may_have_is_refused_by_name(name):
    assert f"app asks for database={name}" in refusal(asking(app=name))


@pytest.mark.parametrize("roles", ["SUPERUSER", "admin", "createrole", "charmed_stats,createdb"])
def test_an_extra_role_that_reaches_other_clients_is_refused_by_name(roles):
    message = refusal(asking(app=Requirer(database="app", extra_user_roles=roles)))
    assert f"extra-user-roles={roles.split(',')[0].lower()}" in message
    assert "allowed: charmed_dml, charmed_read, createdb" in message


def test_createdb_is_given_to_who_asks_for_it():
    state = asking(
        app=Requirer(database="app", extra_user_roles="CREATEDB, charmed_read"), other="other"
    )
    ((logins, _),) = [it.args for it in charm.plan(state).effects]
    assert [client.createdb for client in logins] == [True, False]


def test_each_request_of_the_newer_wire_has_a_role_of_its_own():
    asked = Requirer(
        version="v1",
        requests=(
            Request(database="one", request_id="a", salt="s"),
            Request(database="two", request_id="b", salt="s"),
        ),
    )
    plan = charm.plan(asking(app=asked))
    answers = plan.offers["database"][5]
    assert [(it.resource, it.secret_user.username) for it in answers.requests] == [
        ("one", "relation_id_5"),
        ("two", "relation_id_5_1"),
    ]


def test_a_second_unit_is_blocked_and_touches_nothing():
    with pytest.raises(Invalid, match="scale this application to 1"):
        charm.plan(dataclasses.replace(asking(app="app"), unit=1))


def test_nothing_is_promised_before_there_is_a_seed():
    with pytest.raises(NotYet):
        charm.plan(dataclasses.replace(EMPTY, passwords=None))


def test_the_server_learns_what_verifies_a_password_and_not_the_password():
    made = postgresql.verifier("relation_id_5", "a-password")
    assert made == postgresql.verifier("relation_id_5", "a-password")
    assert made != postgresql.verifier("relation_id_5", "another")
    kind, salt, keys = made.split("$")
    assert (kind, salt.partition(":")[0]) == ("SCRAM-SHA-256", "4096")
    assert "a-password" not in made
    assert [len(it) for it in keys.split(":")] == [44, 44]


def test_memory_is_shared_out():
    assert postgresql.tune(max_connections=100, memory=4096) == {
        "shared_buffers": "1024MB",
        "effective_cache_size": "3072MB",
        "maintenance_work_mem": "256MB",
        "work_mem": "10485kB",
    }


@pytest.mark.parametrize(("connections", "memory"), [(20, 128), (5000, 128), (5000, 4194304)])
def test_tuning_stays_within_what_postgresql_takes(connections, memory):
    sizes = {name: int(it[:-2]) for name, it in postgresql.tune(connections, memory).items()}
    assert sizes["work_mem"] >= 64
    assert 1 <= sizes["maintenance_work_mem"] <= 2048
    assert sizes["shared_buffers"] < memory


def test_only_passwords_that_scram_verifies_let_a_client_in():
    lines = container().files[f"{FILES}/pg_hba.conf"].splitlines()
    assert [line.split()[-1] for line in lines] == ["peer", "reject", "scram-sha-256"]


def container():
    return postgresql.container(max_connections=100, memory=1024)


@pytest.fixture
def ctx():
    meta = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
    config, actions = meta.pop("config"), meta.pop("actions")
    return testing.Context(charm.PostgresqlCharm, meta=meta, config=config, actions=actions)


def running(tmp_path, *apps, **mounts):
    """Return a unit and applications that each ask for the database of their name."""
    asked = {
        app: {"database": app, "requested-secrets": '["username", "password"]'} for app in apps
    }
    files = testing.Mount(location="/charm/container", source=tmp_path)
    return testing.State(
        leader=True,
        planned_units=1,
        model=testing.Model("lab", type="kubernetes"),
        relations={
            testing.Relation("database", id=number, remote_app_name=app, remote_app_data=bag)
            for number, (app, bag) in enumerate(asked.items(), start=5)
        },
        containers={
            testing.Container(
                "postgresql",
                can_connect=True,
                mounts={"files": files, **mounts},
                execs={
                    testing.Exec(["sh", "-c"]),
                    testing.Exec([f"{BIN}/pg_isready"]),
                    testing.Exec([f"{BIN}/psql"]),
                },
            )
        },
    )


def password(state, relation_id):
    uri = state.get_relation(relation_id).local_app_data["secret-user"]
    (secret,) = (it for it in state.secrets if it.id == uri)
    return (secret.latest_content or secret.tracked_content)["password"]


def test_rotation_gives_one_client_a_new_password_and_no_other(ctx, tmp_path):
    state = running(tmp_path, "mlflow", "keycloak")
    before = ctx.run(ctx.on.config_changed(), state)
    after = ctx.run(ctx.on.action("rotate-password", params={"client": "mlflow"}), before)
    assert ctx.action_results == {"rotated": "mlflow"}
    assert password(after, 5) != password(before, 5)
    assert password(after, 6) == password(before, 6)


def test_rotation_for_a_stranger_fails_by_name(ctx, tmp_path):
    state = ctx.run(ctx.on.config_changed(), running(tmp_path, "mlflow"))
    with pytest.raises(
        testing.ActionFailed, match="client=nobody: asks for no database; allowed: mlflow"
    ):
        ctx.run(ctx.on.action("rotate-password", params={"client": "nobody"}), state)


def test_no_password_is_told_to_psql(ctx, tmp_path):
    out = ctx.run(ctx.on.config_changed(), running(tmp_path, "app"))
    asked = [it.stdin or "" for it in ctx.exec_history["postgresql"]]
    assert any("relation_id_5" in it for it in asked)
    assert not any(password(out, 5) in it for it in asked)


@pytest.mark.parametrize(
    ("file", "limit", "buffers"),
    [
        ("memory.max", "2147483648\n", "512MB"),
        ("memory.max", "max\n", "256MB"),
        ("memory/memory.limit_in_bytes", "536870912\n", "128MB"),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", "256MB"),
    ],
)
def test_buffers_follow_the_limit_of_the_container(ctx, tmp_path, file, limit, buffers):
    (tmp_path / "files").mkdir()
    (tmp_path / "limit").write_text(limit)
    cgroup = testing.Mount(location=f"/sys/fs/cgroup/{file}", source=tmp_path / "limit")
    ctx.run(ctx.on.config_changed(), running(tmp_path / "files", cgroup=cgroup))
    written = (tmp_path / "files/katonic/postgresql.conf").read_text()
    assert f"shared_buffers = {buffers}\n" in written


def test_memory_by_option_goes_before_the_limit(ctx, tmp_path):
    state = dataclasses.replace(running(tmp_path), config={"memory": 8192})
    ctx.run(ctx.on.config_changed(), state)
    written = (tmp_path / "katonic/postgresql.conf").read_text()
    assert "shared_buffers = 2048MB\n" in written
