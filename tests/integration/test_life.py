"""What happens to a platform in its life: relations, scale, deaths, rotation, refresh, the end."""

import json
import shutil
import urllib.error
import urllib.request

import boto3
import jubilant
import psycopg
import pytest
from botocore.exceptions import ClientError
from deployed import APPLICATIONS, ON_SANDBOX, ROOT, Platform, charm_path, eventually

WORKLOADS = {
    "files": "minio",
    "istio-ingress": "istio-ingress",
    "katonic-api": "katonic-api",
    "katonic-ui": "katonic-ui",
    "keycloak": "keycloak",
    "mlflow": "mlflow",
    "mlflow-minio": "minio",
    "mongodb": "mongodb",
    "node-pools": "node-pools",
    "postgresql": "postgresql",
}
"""Each application's workload container."""


@pytest.fixture(scope="module")
def client(platform: Platform, deploy_client) -> str:
    """Return a client with a database and a bucket."""
    name = deploy_client("client")
    platform.juju.integrate(f"{name}:database", "postgresql:database")
    platform.juju.integrate(f"{name}:s3", "files:s3")
    platform.settle(name, "postgresql", "files")
    return name


def uri(platform: Platform, client: str) -> str:
    """Return the client's database as this machine reaches it."""
    given = platform.credentials(client)["database-uri"]
    return given.replace(
        f"postgresql.{platform.juju.model}.svc.cluster.local", platform.address("postgresql")
    )


def query(where: str, statement: str) -> list[tuple]:
    with psycopg.connect(where, connect_timeout=5, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def bucket(platform: Platform, given: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=platform.url("files", 9000),
        aws_access_key_id=given["s3-access-key"],
        aws_secret_access_key=given["s3-secret-key"],
        region_name="us-east-1",
    )


def is_refused(where: str) -> bool:
    try:
        query(where, "select 1")
    except psycopg.OperationalError as error:
        return "authentication failed" in str(error) or "does not exist" in str(error)
    return False


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def test_a_relation_removed_takes_access_away_and_keeps_the_data(platform, client):
    before = uri(platform, client)
    query(before, "create table if not exists kept (word text)")
    query(before, "insert into kept values ('still here')")
    platform.juju.remove_relation(f"{client}:database", "postgresql:database")
    eventually(lambda: is_refused(before))
    platform.settle(client, "postgresql")
    platform.juju.integrate(f"{client}:database", "postgresql:database")
    platform.settle(client, "postgresql")
    after = eventually(lambda: platform.credentials(client)["database-uri"]) and uri(
        platform, client
    )
    assert eventually(lambda: query(after, "select word from kept")) == [("still here",)]
    assert is_refused(before)


def test_a_database_is_closed_to_another_applications_role(platform, client, deploy_client):
    other = deploy_client("stranger", database="stranger")
    platform.juju.integrate(f"{other}:database", "postgresql:database")
    platform.settle(other, "postgresql")
    eventually(lambda: platform.credentials(other)["database-uri"])
    mine = uri(platform, other)
    theirs = mine.rpartition("/")[0] + "/" + uri(platform, client).rpartition("/")[2]
    assert query(mine, "select 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        query(theirs, "select 1")


def test_a_rotated_database_password_replaces_the_old_one(platform, client):
    before = uri(platform, client)
    platform.juju.run("postgresql/0", "rotate-password")
    after = eventually(lambda: changed(lambda: uri(platform, client), before))
    assert query(after, "select 1") == [(1,)]
    assert is_refused(before)
    platform.settle()
    assert answers(platform.url("mlflow", 5000) + "/health")
    assert eventually(lambda: experiments(platform))


def changed(now, before):
    value = now()
    return value if value != before else None


def experiments(platform: Platform) -> list:
    """Return what MLflow has in its database, which it can only reach with its password."""
    body = json.dumps({"max_results": 5}).encode()
    request = urllib.request.Request(
        platform.url("mlflow", 5000) + "/api/2.0/mlflow/experiments/search",
        body,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["experiments"]


def test_a_rotated_key_replaces_the_old_one(platform, client):
    given = platform.credentials(client)
    bucket(platform, given).put_object(Bucket=given["s3-bucket"], Key="word", Body=b"kept")
    platform.juju.run("files/0", "rotate-key")
    fresh = eventually(
        lambda: changed(
            lambda: platform.credentials(client)["s3-secret-key"], given["s3-secret-key"]
        )
    )
    now = {**platform.credentials(client), "s3-secret-key": fresh}
    got = bucket(platform, now).get_object(Bucket=now["s3-bucket"], Key="word")
    assert got["Body"].read() == b"kept"
    with pytest.raises(ClientError):
        bucket(platform, given).get_object(Bucket=given["s3-bucket"], Key="word")


def test_a_rotated_admin_password_replaces_the_old_one(platform):
    given = platform.juju.run("keycloak/0", "get-admin-password").results
    name, before = given["username"], given["password"]
    platform.juju.run("keycloak/0", "rotate-password")
    platform.settle("keycloak")
    after = platform.juju.run("keycloak/0", "get-admin-password").results["password"]
    assert after != before

    def login(password: str) -> int:
        body = f"grant_type=password&client_id=admin-cli&username={name}&password={password}"
        url = platform.url("keycloak", 8080) + "/realms/master/protocol/openid-connect/token"
        try:
            with urllib.request.urlopen(url, body.encode(), timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert eventually(lambda: login(after) == 200)
    assert login(before) == 401


@pytest.mark.parametrize(("application", "port"), [("mlflow", 5000), ("keycloak", 8080)])
def test_scaled_to_three_all_units_are_active_and_serve(platform, application, port):
    platform.juju.add_unit(application, num_units=2)
    status = eventually(lambda: settled_at(platform, application, 3), timeout=300)
    units = status.apps[application].units
    assert {it.workload_status.current for it in units.values()} == {"active"}
    path = "/health" if application == "mlflow" else "/realms/platform"
    assert all(answers(f"http://{it.address}:{port}{path}") for it in units.values())
    if application == "keycloak":
        assert_sessions_are_shared([it.address for it in units.values()], platform)
    platform.juju.remove_unit(application, num_units=2)
    eventually(lambda: settled_at(platform, application, 1), timeout=300)
    assert answers(platform.url(application, port) + path)


def settled_at(platform: Platform, application: str, scale: int) -> jubilant.Status | None:
    status = platform.juju.status()
    app = status.apps[application]
    ready = len(app.units) == scale and jubilant.all_active(status, application)
    return status if ready and jubilant.all_agents_idle(status, application) else None


def assert_sessions_are_shared(addresses: list[str], platform: Platform) -> None:
    """A session that one unit opened is known to the others, and ended by any."""
    login = platform.juju.run("keycloak/0", "get-admin-password").results
    realm = "/realms/master/protocol/openid-connect"

    def post(address: str, path: str, body: str, bearer: str = "") -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        headers["Host"] = f"{platform.address('keycloak')}:8080"
        url = f"http://{address}:8080{realm}{path}"
        request = urllib.request.Request(url, body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            return error.code, {}

    name = f"client_id=admin-cli&username={login['username']}&password={login['password']}"
    _, tokens = post(addresses[0], "/token", f"grant_type=password&{name}")
    refresh = f"client_id=admin-cli&refresh_token={tokens['refresh_token']}"
    for address in addresses:
        code, _ = post(address, "/token", f"grant_type=refresh_token&{refresh}")
        assert code == 200, f"{address} does not know the session"
    code, _ = post(addresses[-1], "/logout", refresh)
    assert code == 204
    assert post(addresses[0], "/token", f"grant_type=refresh_token&{refresh}")[0] == 400


@pytest.mark.parametrize("application", sorted(APPLICATIONS))
def test_a_deleted_pod_comes_back_with_all_it_had(platform, client, application):
    where = uri(platform, client)
    query(where, "create table if not exists deaths (pod text)")
    query(where, f"insert into deaths values ('{application}')")
    platform.kubectl("delete", "pod", f"{application}-0", "--wait=true")
    platform.settle(timeout=300)
    assert (application,) in eventually(lambda: query(where, "select pod from deaths"))
    assert eventually(lambda: experiments(platform))


def test_workloads_that_are_killed_all_at_once_are_started_again(platform):
    before = {it: pid(platform, it) for it in WORKLOADS}
    assert all(before.values())
    for application, it in before.items():
        container = WORKLOADS[application]
        platform.juju.ssh(f"{application}/0", "kill", "-9", str(it), container=container)
    for application, it in before.items():
        eventually(lambda a=application, it=it: pid(platform, a) not in (0, it))
    platform.settle()
    assert eventually(lambda: experiments(platform))


def pid(platform: Platform, application: str) -> int:
    """Return the pid of the process that Pebble runs for an application, 0 for none."""
    script = (
        "for d in /proc/[0-9]*; do"
        " [ \"$(cut -d' ' -f4 $d/stat 2>/dev/null)\" = 1 ] &&"
        ' [ "$(cat $d/comm)" != sleep ] && echo ${d#/proc/} && break; done'
    )
    container = WORKLOADS[application]
    pid = platform.kubectl("exec", f"{application}-0", "-c", container, "--", "sh", "-c", script)
    return int(pid.split()[0]) if pid.split() else 0


def test_a_failing_hook_is_retried_and_what_it_wrote_is_not_seen(platform, client):
    platform.juju.config(client, {"fail": True})
    status = platform.juju.wait(lambda it: jubilant.any_error(it, client), timeout=60)
    assert "config-changed" in status.apps[client].app_status.message
    unit = platform.juju.cli("show-unit", "postgresql/0", "--format", "json")
    assert "written-before-failing" not in unit
    platform.juju.config(client, {"fail": False})
    platform.juju.wait(lambda it: jubilant.all_active(it, client), timeout=120)


def test_kubernetes_refusal_says_which_trust_to_give_and_heals(platform, client):
    platform.juju.config(client, {"note": "hello"})
    status = platform.juju.wait(lambda it: jubilant.all_blocked(it, client), timeout=60)
    assert status.apps[client].app_status.message == f"run: juju trust {client} --scope=cluster"
    platform.juju.trust(client, scope="cluster")
    platform.settle(client, timeout=120)
    note = json.loads(platform.kubectl("get", "configmap", f"{client}-note", "-o", "json"))
    assert note["data"] == {"note": "hello"}


@pytest.mark.skipif(not ON_SANDBOX, reason="packs no second version of a charm")
def test_a_charm_is_refreshed_and_its_data_stays(platform, client, tmp_path):
    where = uri(platform, client)
    query(where, "create table if not exists refreshed (word text)")
    changed_charm = ROOT / "build" / "client"
    shutil.rmtree(changed_charm, ignore_errors=True)
    shutil.copytree(ROOT / "tests/charms/client", changed_charm)
    source = changed_charm / "src/charm.py"
    source.write_text(source.read_text().replace("sleep infinity", "sleep 1000000"))
    platform.juju.refresh(client, path=changed_charm)
    eventually(
        lambda: "sleep 1000000" in platform.juju.run(f"{client}/0", "show-plan").results["plan"]
    )
    platform.settle(client)
    assert query(where, "select count(*) from refreshed") == [(0,)]
    platform.juju.refresh("postgresql", path=charm_path(ROOT / "charms/postgresql"))
    platform.settle()
    assert eventually(lambda: query(where, "select count(*) from refreshed")) == [(0,)]
