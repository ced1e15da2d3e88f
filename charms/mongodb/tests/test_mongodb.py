import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import ops
import pytest
import yaml
from ops import testing

from interfaces.mongodb_client import Provider, Request, Requirer
from katonic import FILES, Invalid, NotYet

ROOT = Path(__file__).parents[1]


def load(name, folder="src"):
    """Every charm has a module of the name `charm`, so none of them is imported by that name."""
    spec = importlib.util.spec_from_file_location(f"mongodb.{name}", ROOT / f"{folder}/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


world = load("world", "tests")
administration = sys.modules["administration"] = load("administration")
mongodb = sys.modules["mongodb"] = load("mongodb")
charm = load("charm")
del sys.modules["administration"], sys.modules["mongodb"]

MEMBER = mongodb.member("documents", "documents/0", "lab")
HOST = "documents-0.documents-endpoints.lab.svc.cluster.local:27017"


def running_on(engine, memory=None):
    operator = mongodb.operator(engine, "operator-password")
    return mongodb.Server(engine, MEMBER, operator, "a-keyfile", memory)


EMPTY = charm.State(
    unit=0,
    server=running_on("mongodb"),
    asked={},
    applications={},
    passwords={},
    owners={"admin": "", "config": "", "local": "", "katonic": ""},
)
FERRETDB = dataclasses.replace(EMPTY, server=running_on("ferretdb"))


def asking(state=EMPTY, **databases):
    """Return the state with a relation for each application, `app=database` or `app=Requirer`."""
    asked, applications = {}, {}
    for number, (app, it) in enumerate(databases.items(), start=5):
        asked[number] = Requirer(database=it) if isinstance(it, str) else it
        applications[number] = app
    users = [user for number, it in asked.items() for user in mongodb.users(number, it)]
    return dataclasses.replace(
        state,
        asked=asked,
        applications=applications,
        passwords={user: f"password-of-{user}" for user in users},
    )


def refusal(state):
    status = charm.plan(state).status
    assert isinstance(status, ops.BlockedStatus)
    return status.message


def clients_of(plan):
    (effect,) = plan.effects
    return list(effect.args[2])


def test_each_relation_gets_a_user_and_a_password_of_its_own():
    plan = charm.plan(asking(api="documents", ui="sessions"))
    assert plan.status is None
    api, ui = (plan.offers["database"][it] for it in (5, 6))
    assert isinstance(api, Provider)
    assert (api.database, api.username) == ("documents", "relation-5")
    assert (ui.database, ui.username) == ("sessions", "relation-6")
    assert api.password != ui.password
    assert api.secret_user.uris == api.url


def test_a_client_of_mongodb_is_told_the_replica_set_and_where_its_user_is():
    (it,) = charm.plan(asking(api="documents")).offers["database"].values()
    assert it.replset == "documents"
    assert it.url == (
        f"mongodb://relation-5:password-of-relation-5@{HOST}/documents"
        "?authSource=admin&replicaSet=documents"
    )


def test_a_client_of_ferretdb_is_told_of_no_replica_set():
    (it,) = charm.plan(asking(FERRETDB, api="documents")).offers["database"].values()
    assert it.replset is None
    assert it.version is None
    assert it.url == (
        f"mongodb://relation-5:password-of-relation-5@{HOST}/documents?authSource=admin"
    )


def test_a_user_may_read_and_write_its_own_database_alone():
    (client,) = clients_of(charm.plan(asking(api="documents")))
    assert (client.database, client.roles) == ("documents", ("readWrite",))


def test_who_asks_for_it_may_change_its_database_s_rules_too():
    asked = Requirer(database="documents", extra_user_roles="default,dbAdmin")
    (client,) = clients_of(charm.plan(asking(api=asked)))
    assert client.roles == ("readWrite", "dbAdmin")


@pytest.mark.parametrize("roles", ["ADMIN", "root", "userAdmin", "backup,dbAdmin"])
def test_an_extra_role_that_reaches_other_clients_is_refused_by_name(roles):
    message = refusal(asking(app=Requirer(database="app", extra_user_roles=roles)))
    assert f"extra-user-roles={roles.split(',')[0].lower()}" in message
    assert "allowed: default, dbadmin" in message


def test_a_database_of_another_application_is_refused_and_the_others_are_served():
    state = asking(api="documents", thief="documents", ui="sessions")
    assert refusal(state) == (
        "thief asks for database=documents, which is api's: ask for another name"
    )
    plan = charm.plan(state)
    assert plan.offers["database"].keys() == {5, 7}
    assert [it.application for it in clients_of(plan)] == ["api", "ui"]
    assert plan.effects[0].args[3] == [6]


def test_a_kept_database_is_given_to_its_application_alone():
    kept = dataclasses.replace(EMPTY, owners={**EMPTY.owners, "documents": "api", "by-hand": ""})
    assert charm.plan(asking(kept, api="documents")).status is None
    assert "thief asks for database=documents" in refusal(asking(kept, thief="documents"))
    assert "which is the server's" in refusal(asking(kept, thief="by-hand"))


@pytest.mark.parametrize(
    "name", ["admin", "local", "config", "katonic", "", "a b", "a.b", "x" * 64, "-x", "$x"]
)
def test_a_name_that_no_client_may_have_is_refused_by_name(name):
    never_read = dataclasses.replace(EMPTY, owners={})
    assert f"app asks for database={name}" in refusal(asking(never_read, app=name))


def test_each_request_of_the_newer_wire_has_a_user_of_its_own():
    asked = Requirer(
        version="v1",
        requests=(
            Request(database="one", request_id="a", salt="s"),
            Request(database="two", request_id="b", salt="s"),
        ),
    )
    answers = charm.plan(asking(app=asked)).offers["database"][5]
    assert [(it.resource, it.secret_user.username) for it in answers.requests] == [
        ("one", "relation-5"),
        ("two", "relation-5-1"),
    ]
    assert {it.replset for it in answers.requests} == {"documents"}


def test_a_second_unit_is_blocked_and_touches_nothing():
    with pytest.raises(Invalid, match="scale this application to 1"):
        charm.plan(dataclasses.replace(asking(app="app"), unit=1))


def test_nothing_is_promised_before_there_are_secrets():
    with pytest.raises(NotYet):
        charm.plan(dataclasses.replace(EMPTY, server=None))


def configuration(memory=None):
    return yaml.safe_load(
        mongodb.container(running_on("mongodb", memory)).files[f"{FILES}/mongod.conf"]
    )


def test_mongod_lets_nobody_in_without_a_password_and_is_a_member_of_its_set():
    settings = configuration()
    assert settings["security"] == {"authorization": "enabled", "keyFile": f"{FILES}/keyfile"}
    assert settings["replication"] == {"replSetName": "documents"}
    assert settings["net"] == {"port": 27017, "bindIpAll": True}
    assert settings["storage"] == {"dbPath": "/data/db/mongodb"}


def test_the_keyfile_is_for_mongod_alone():
    file = mongodb.container(running_on("mongodb")).files[f"{FILES}/keyfile"]
    assert (file.content, file.permissions) == ("a-keyfile", 0o600)


def test_a_keyfile_is_of_signs_and_of_a_length_that_mongod_takes():
    made = mongodb.keyfile()
    assert 6 <= len(made) <= 1024
    assert made.replace("+", "").replace("/", "").isalnum()
    assert made != mongodb.keyfile()


@pytest.mark.parametrize(
    ("memory", "size"), [(256, 0.25), (1024, 0.25), (1536, 0.25), (4096, 1.5)]
)
def test_the_cache_is_half_of_what_is_above_a_gibibyte(memory, size):
    engine = configuration(memory)["storage"]["wiredTiger"]["engineConfig"]
    assert engine == {"cacheSizeGB": size}


def test_ferretdb_asks_for_passwords_and_gets_its_first_in_secret():
    container = mongodb.container(running_on("ferretdb"))
    service = container.services["ferretdb"]
    assert "--test-enable-new-auth=true" in service.command
    assert "--sqlite-url=file:/data/db/ferretdb/" in service.command
    assert service.secrets == {"FERRETDB_SETUP_PASSWORD": "operator-password"}
    assert not container.files


@pytest.mark.parametrize(("engine", "ports"), [("mongodb", [27017]), ("ferretdb", [27017, 8088])])
def test_the_ports_of_an_engine_are_open(engine, ports):
    state = dataclasses.replace(EMPTY, server=running_on(engine))
    assert charm.plan(state).ports == ports


@pytest.mark.parametrize(("engine", "other"), [("mongodb", "ferretdb"), ("ferretdb", "mongodb")])
def test_an_engine_does_not_start_beside_the_data_of_the_other(tmp_path, engine, other):
    def step(name):
        (it,) = mongodb.container(running_on(name)).steps
        argv = [word.replace("/data/db", str(tmp_path)) for word in it.argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert step(engine) == (0, "")
    assert tmp_path.joinpath(engine).stat().st_mode & 0o777 == 0o700
    assert step(engine) == (0, "")
    told = f"engine={other}, but the storage has data of {engine}: set engine={engine}\n"
    assert step(other) == (1, told)


@pytest.fixture
def server():
    with world.serve():
        yield world.server


def client(number, database="documents", application="api", roles=("readWrite",)):
    return administration.Client(f"relation-{number}", database, application, roles)


def serve(*logins, silent=(), password="operator-password", older=()):
    operator = mongodb.operator("mongodb", password, *older)
    return administration.serve(operator, MEMBER, dict(logins), silent)


def roles_of(server, user):
    return [(it["role"], it["db"]) for it in server.users[user]["roles"]]


def test_a_new_server_becomes_a_replica_set_with_one_administrator(server):
    assert serve() == ["initiated replica set documents", "made user operator"]
    assert server.members == [HOST]
    assert roles_of(server, "operator") == [("root", "admin")]


def test_until_the_replica_set_has_a_primary_it_waits(server):
    server.elected = False
    with pytest.raises(NotYet, match="replica set documents has no primary yet"):
        serve()
    assert not server.users
    server.elected = True
    assert serve() == ["made user operator"]


def test_a_client_reaches_its_database_and_no_other(server):
    serve((client(5), "first"), (client(6, "sessions", "ui"), "second"))
    assert roles_of(server, "relation-5") == [("readWrite", "documents")]
    assert roles_of(server, "relation-6") == [("readWrite", "sessions")]
    assert server.lets_in("relation-5", "first")
    assert not server.lets_in("relation-6", "first")


def test_serving_again_changes_nothing(server):
    logins = (client(5), "first"), (client(6, "sessions", "ui"), "second")
    assert serve(*logins)
    assert serve(*logins) == []


def test_a_new_password_is_the_only_one(server):
    serve((client(5), "first"))
    assert serve((client(5), "second")) == ["user relation-5: set pwd, mechanisms"]
    assert server.lets_in("relation-5", "second")
    assert not server.lets_in("relation-5", "first")


def test_roles_that_were_changed_are_put_right(server):
    serve((client(5), "first"))
    server.users["relation-5"]["roles"] = [{"role": "root", "db": "admin"}]
    assert serve((client(5), "first")) == ["user relation-5: set roles"]
    assert roles_of(server, "relation-5") == [("readWrite", "documents")]


def test_the_end_of_a_relation_takes_its_user_and_leaves_its_database(server):
    serve((client(5), "first"))
    assert serve() == ["dropped user relation-5"]
    assert server.users.keys() == {"operator"}
    assert administration.owners("operator-password")["documents"] == "api"


def test_a_relation_that_asks_for_nothing_valid_keeps_its_user(server):
    serve((client(5), "first"))
    assert serve(silent=[5]) == []


def test_users_that_no_relation_made_are_left_alone(server):
    serve()
    server.users["someone"] = server.users["operator"]
    assert serve() == []


def test_a_database_that_has_become_another_s_is_not_touched(server):
    serve((client(5), "first"))
    with pytest.raises(NotYet, match="database documents is api's"):
        serve((client(6, application="thief"), "second"))
    assert "relation-6" not in server.users


def test_the_administrator_gets_its_new_password_by_an_older_one(server):
    serve()
    done = serve(password="newer", older=["never-set", "operator-password"])
    assert done == ["user operator: set its password"]
    assert administration.knows("newer")
    assert not administration.knows("operator-password")


def test_an_administrator_of_whom_nothing_is_known_is_the_user_s_turn(server):
    serve()
    with pytest.raises(Invalid, match="set operator-password to its password"):
        serve(password="unknown")
    assert administration.owners("unknown") == {}


def test_while_the_server_does_not_answer_it_waits(server):
    server.answers = False
    with pytest.raises(NotYet, match="mongodb does not answer"):
        serve()
    assert administration.owners("operator-password") == {}
    assert not administration.knows("operator-password")


@pytest.fixture
def ctx(server):
    meta = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
    config, actions = meta.pop("config"), meta.pop("actions")
    return testing.Context(charm.MongodbCharm, meta=meta, config=config, actions=actions)


def running(tmp_path, **mounts):
    """Return a unit, and the applications api and ui that each ask for a database."""
    files = testing.Mount(location="/charm/container", source=tmp_path)
    secrets = '["username", "password"]'
    return testing.State(
        leader=True,
        planned_units=1,
        model=testing.Model("lab", type="kubernetes"),
        relations={
            testing.Relation(
                "database",
                id=number,
                remote_app_name=app,
                remote_app_data={"database": app, "requested-secrets": secrets},
            )
            for number, app in ((5, "api"), (6, "ui"))
        },
        containers={
            testing.Container(
                "mongodb",
                can_connect=True,
                mounts={"files": files, **mounts},
                execs=frozenset(world.EXECS),
            )
        },
    )


def password(state, relation):
    uri = state.get_relation(relation).local_app_data["secret-user"]
    (secret,) = (it for it in state.secrets if it.id == uri)
    return (secret.latest_content or secret.tracked_content)["password"]


def test_rotation_gives_one_client_a_new_password_and_no_other(ctx, tmp_path, server):
    before = ctx.run(ctx.on.config_changed(), running(tmp_path))
    after = ctx.run(ctx.on.action("rotate-password", params={"client": "api"}), before)
    assert ctx.action_results == {"rotated": "api"}
    assert password(after, 5) != password(before, 5)
    assert password(after, 6) == password(before, 6)
    assert server.lets_in("relation-5", password(after, 5))
    assert not server.lets_in("relation-5", password(before, 5))


def test_rotation_for_a_stranger_fails_by_name(ctx, tmp_path):
    with pytest.raises(
        testing.ActionFailed, match="client=nobody: asks for no database; allowed: api, ui"
    ):
        ctx.run(ctx.on.action("rotate-password", params={"client": "nobody"}), running(tmp_path))


def operator_password(ctx, state):
    ctx.run(ctx.on.action("get-operator-password"), state)
    assert ctx.action_results["username"] == "operator"
    return ctx.action_results["password"]


def test_rotation_of_the_administrator_s_password_leaves_the_clients_theirs(ctx, tmp_path, server):
    before = ctx.run(ctx.on.config_changed(), running(tmp_path))
    old = operator_password(ctx, before)
    after = ctx.run(ctx.on.action("rotate-password", params={"operator": True}), before)
    new = operator_password(ctx, after)
    assert server.lets_in("operator", new)
    assert not server.lets_in("operator", old)
    assert password(after, 5) == password(before, 5)


def test_a_password_that_never_arrived_is_not_rotated_away(ctx, tmp_path, server):
    state = ctx.run(ctx.on.config_changed(), running(tmp_path))
    server.answers = False
    with pytest.raises(testing.ActionFailed, match="wait for active"):
        ctx.run(ctx.on.action("rotate-password", params={"operator": True}), state)


def test_a_storage_of_another_application_is_taken_over_by_its_password(ctx, tmp_path, server):
    serve((client(99, "api"), "gone"), password="left-behind")
    state = running(tmp_path)
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "set operator-password" in out.unit_status.message
    left = testing.Secret({"operator-password": "left-behind"}, id="secret:d2l4mine0k5c7a1b2c3g")
    given = dataclasses.replace(
        out, secrets={*out.secrets, left}, config={"operator-password": left.id}
    )
    after = ctx.run(ctx.on.config_changed(), given)
    assert after.unit_status == ops.ActiveStatus()
    assert server.lets_in("operator", operator_password(ctx, after))
    assert not server.lets_in("operator", "left-behind")


@pytest.mark.parametrize(
    ("file", "limit", "size"),
    [
        ("memory.max", "4294967296\n", 1.5),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "536870912\n", 0.25),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
    ],
)
def test_the_cache_follows_the_limit_of_the_container(ctx, tmp_path, file, limit, size):
    (tmp_path / "files").mkdir()
    (tmp_path / "limit").write_text(limit)
    cgroup = testing.Mount(location=f"/sys/fs/cgroup/{file}", source=tmp_path / "limit")
    ctx.run(ctx.on.config_changed(), running(tmp_path / "files", cgroup=cgroup))
    written = yaml.safe_load((tmp_path / "files/katonic/mongod.conf").read_text())
    tuned = written["storage"].get("wiredTiger", {}).get("engineConfig", {})
    assert tuned.get("cacheSizeGB") == size


@pytest.mark.parametrize("engine", ["mongo", "postgresql"])
def test_an_engine_that_there_is_not_is_blocked_by_name(ctx, tmp_path, engine):
    state = dataclasses.replace(running(tmp_path), config={"engine": engine})
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert f"engine={engine}" in out.unit_status.message
    assert "allowed: mongodb, ferretdb" in out.unit_status.message
