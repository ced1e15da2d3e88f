import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import ops
import pytest
import yaml
from ops import testing

from interfaces.s3 import Requirer
from katonic import Invalid, NotYet

ROOT = Path(__file__).parents[1]


def load(name, folder="src"):
    """Every charm has a module of the name `charm`, so none of them is imported by that name."""
    spec = importlib.util.spec_from_file_location(f"minio.{name}", ROOT / f"{folder}/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


world = load("world", "tests")
administration = sys.modules["administration"] = load("administration")
objectstore = sys.modules["objectstore"] = load("objectstore")
charm = load("charm")
del sys.modules["administration"], sys.modules["objectstore"]

SECRETS_FILE = "charm/container/katonic/minio.env"
ROOT_KEYS = objectstore.Keys(access_key="minio-root", secret_key="root-secret")
SECRETS = charm.Secrets(root=ROOT_KEYS, encryption_key="a-key", clients={})
EMPTY = charm.State(
    unit=0,
    host="minio.lab.svc.cluster.local",
    gateway=objectstore.gateway("minio", "lab", 0),
    options=charm.Options(versioning=False),
    console_url=None,
    asked={},
    applications={},
    secrets=SECRETS,
    owners={},
)


def asking(state=EMPTY, **buckets):
    """Return the state with a relation for each application, `app=bucket`, numbered from 5."""
    asked = dict(enumerate((Requirer(bucket=it) for it in buckets.values()), start=5))
    keys = {number: objectstore.keys(number, f"secret-{number}") for number in asked}
    return dataclasses.replace(
        state,
        asked=asked,
        applications=dict(enumerate(buckets, start=5)),
        secrets=dataclasses.replace(SECRETS, clients=keys),
    )


def refusal(state):
    status = charm.plan(state).status
    assert isinstance(status, ops.BlockedStatus)
    return status.message


def test_each_relation_gets_a_bucket_and_keys_of_its_own():
    plan = charm.plan(asking(mlflow="mlflow", pipelines="runs"))
    assert plan.status is None
    mlflow, pipelines = (plan.offers["s3"][it] for it in (5, 6))
    assert (mlflow.bucket, pipelines.bucket) == ("mlflow", "runs")
    assert mlflow.endpoint == "http://minio.lab.svc.cluster.local:9000"
    assert mlflow.access_key != pipelines.access_key
    assert mlflow.secret_key != pipelines.secret_key


def test_who_names_no_bucket_gets_one_of_its_own_name():
    assert charm.plan(asking(reader=None)).offers["s3"][5].bucket == "reader"


def test_a_bucket_of_another_application_is_refused_and_the_others_are_served():
    state = asking(mlflow="mlflow", thief="mlflow", pipelines="runs")
    assert refusal(state) == (
        "thief asks for bucket=mlflow, which is mlflow's: ask for another name"
    )
    assert charm.plan(state).offers["s3"].keys() == {5, 7}


def test_a_kept_bucket_is_given_to_its_application_alone():
    kept = dataclasses.replace(EMPTY, owners={"mlflow": "mlflow", "by-hand": ""})
    assert charm.plan(asking(kept, mlflow="mlflow")).status is None
    assert "thief asks for bucket=mlflow" in refusal(asking(kept, thief="mlflow"))
    assert "the server's" in refusal(asking(kept, thief="by-hand"))


@pytest.mark.parametrize("name", ["", "ab", "Big", "a.b", "-abc", "a" * 64, "minio", "a/b"])
def test_a_name_that_no_bucket_may_have_is_refused_by_name(name):
    if not name:
        name = "a"
    assert f"app asks for bucket={name}" in refusal(asking(app=name))


def test_a_second_unit_is_blocked_and_touches_nothing():
    with pytest.raises(Invalid, match="scale this application to 1"):
        charm.plan(dataclasses.replace(asking(app="app"), unit=1))


def test_nothing_is_promised_before_there_are_secrets():
    with pytest.raises(NotYet):
        charm.plan(dataclasses.replace(EMPTY, secrets=None))


def test_no_secret_is_in_the_command_or_the_open_environment():
    service = charm.plan(EMPTY).containers["minio"].services["minio"]
    shown = service.command + json.dumps(dict(service.environment))
    assert service.secrets["MINIO_KMS_SECRET_KEY"] == "katonic:a-key"
    assert "root-secret" not in shown
    assert "a-key" not in shown


def test_the_console_knows_its_url_behind_a_gateway():
    plan = charm.plan(dataclasses.replace(EMPTY, console_url="https://mlops.example/storage"))
    service = plan.containers["minio"].services["minio"]
    assert service.environment["MINIO_BROWSER_REDIRECT_URL"] == "https://mlops.example/storage"
    gateway, unit = plan.asks["ingress"]
    assert (gateway.port, gateway.strip_prefix) == (9001, True)
    assert unit.host == "minio-0.minio-endpoints.lab.svc.cluster.local"


def test_the_consoles_tile_is_there_once_a_browser_finds_it():
    assert not charm.plan(EMPTY).asks["catalogue"]
    plan = charm.plan(dataclasses.replace(EMPTY, console_url="https://mlops.example/storage"))
    (tile,) = plan.asks["catalogue"]
    assert tile.url == "https://mlops.example/storage"
    assert tile.health == "http://minio.lab.svc.cluster.local:9000/minio/health/live"


@pytest.fixture
def minio():
    with world.serve():
        yield world.stores.setdefault("minio-root", world.Store())


def client(number, bucket="runs", application="app", secret="first"):
    keys = objectstore.keys(number, f"{secret}-secret-of-{number}")
    return objectstore.Client(keys, bucket, application)


def serve(*clients, silent=(), versioning=False):
    return objectstore.serve(ROOT_KEYS, list(clients), set(silent), versioning)


def test_a_client_reaches_its_bucket_and_no_other(minio):
    one, two = client(5, "one", "first"), client(6, "two", "second")
    serve(one, two)
    for it in (one, two):
        given = minio.accounts["user_mappings"][it.keys.access_key]["policy"]
        resources = [
            resource
            for statement in minio.accounts["policies"][given]["Statement"]
            for resource in statement["Resource"]
        ]
        assert set(resources) == {f"arn:aws:s3:::{it.bucket}", f"arn:aws:s3:::{it.bucket}/*"}


def test_serving_again_changes_nothing(minio):
    assert serve(client(5), client(6, "other", "other"))
    assert serve(client(5), client(6, "other", "other")) == []


def test_a_new_bucket_is_encrypted(minio):
    serve(client(5))
    assert "AES256" in minio.buckets["runs"]["encryption"]


def test_new_keys_are_another_user_and_the_old_one_goes(minio):
    old, new = client(5), client(5, secret="second")
    serve(old)
    serve(new)
    assert minio.accounts["users"].keys() == {new.keys.access_key}


def test_the_end_of_a_relation_takes_its_user_and_leaves_its_bucket(minio):
    serve(client(5))
    assert serve() == [f"removed user {client(5).keys.access_key}"]
    assert not minio.accounts["users"]
    assert minio.buckets.keys() == {"runs"}
    assert objectstore.owners(ROOT_KEYS) == {"runs": "app"}


def test_a_relation_that_asks_for_nothing_valid_keeps_its_user(minio):
    serve(client(5))
    assert serve(silent=[5]) == []


def test_users_that_no_relation_made_are_left_alone(minio):
    minio.accounts["users"]["someone"] = {"secretKey": "x", "status": "enabled"}
    serve(client(5))
    serve()
    assert minio.accounts["users"].keys() == {"someone"}


def test_a_bucket_that_has_become_another_s_is_not_touched(minio):
    serve(client(5))
    with pytest.raises(NotYet, match="bucket runs is app's"):
        serve(client(6, application="thief"))
    assert minio.accounts["users"].keys() == {client(5).keys.access_key}


def test_a_changed_policy_is_put_right(minio):
    serve(client(5))
    minio.accounts["policies"]["katonic.app.runs"]["Statement"].pop()
    assert serve(client(5)) == ["made policy katonic.app.runs"]


def test_versions_are_kept_for_as_long_as_the_option_says(minio):
    serve(client(5), versioning=True)
    assert "Enabled" in minio.buckets["runs"]["versioning"]
    assert serve(client(5)) == ["no longer keep versions in runs"]
    assert "Suspended" in minio.buckets["runs"]["versioning"]


def test_without_minio_it_is_not_known_whose_a_bucket_is(monkeypatch):
    monkeypatch.setattr(administration, "_HOST", "localhost:1")  # nothing listens there
    assert objectstore.owners(ROOT_KEYS) == {}
    with pytest.raises(NotYet, match="minio does not answer"):
        serve(client(5))


def test_a_signature_is_amazon_s():
    """Source of the signature: botocore 1.44's S3SigV4Auth for the same request and time."""
    botocore = pytest.importorskip("botocore.auth")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    mine = administration._signed(ROOT_KEYS, "PUT", "/runs", "versioning=", b"body")
    request = AWSRequest("PUT", "http://localhost:9000/runs?versioning=", data=b"body")
    request.context["timestamp"] = mine["x-amz-date"]
    for name in ("x-amz-date", "x-amz-content-sha256"):
        request.headers[name] = mine[name]
    signer = botocore.SigV4Auth(
        Credentials(ROOT_KEYS.access_key, ROOT_KEYS.secret_key), "s3", "us-east-1"
    )
    canonical = signer.canonical_request(request)
    text = signer.string_to_sign(request, canonical)
    assert mine["Authorization"].endswith(f"Signature={signer.signature(text, request)}")


@pytest.fixture
def ctx(minio):
    meta = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
    config, actions = meta.pop("config"), meta.pop("actions")
    return testing.Context(charm.MinioCharm, meta=meta, config=config, actions=actions)


@pytest.fixture
def state(tmp_path):
    files = testing.Mount(location="/charm/container", source=tmp_path)
    asked = {"version": "1", "requested-secrets": '["access-key", "secret-key"]'}
    return testing.State(
        leader=True,
        planned_units=1,
        model=testing.Model("lab", type="kubernetes"),
        relations={
            testing.Relation("s3", id=number, remote_app_name=app, remote_app_data=asked)
            for number, app in ((5, "mlflow"), (6, "pipelines"))
        },
        containers={
            testing.Container(
                "minio",
                can_connect=True,
                mounts={"files": files},
                execs={testing.Exec(["install"])},
            )
        },
    )


def test_the_users_own_encryption_key_is_taken_when_it_may_be_read(ctx, state):
    mine = testing.Secret({"encryption-key": "an-older-key"}, id="secret:d2l4mine0k5c7a1b2c3g")
    given = dataclasses.replace(state, secrets={mine}, config={"encryption-key": mine.id})
    out = ctx.run(ctx.on.config_changed(), given)
    with out.get_container("minio").get_filesystem(ctx).joinpath(SECRETS_FILE).open() as file:
        assert "katonic:an-older-key" in file.read()
    ctx.run(ctx.on.action("get-root-key"), given)
    assert ctx.action_results["encryption-key"] == "an-older-key"


def test_an_encryption_key_that_may_not_be_read_is_blocked_with_the_command(ctx, state):
    hidden = dataclasses.replace(state, config={"encryption-key": "secret:d2l4mine0k5c7a1b2c3g"})
    out = ctx.run(ctx.on.config_changed(), hidden)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "juju grant-secret secret:d2l4mine0k5c7a1b2c3g minio" in out.unit_status.message
    assert not out.get_container("minio").plan.services


def keys(state, relation):
    uri = state.get_relation(relation).local_app_data["secret-extra"]
    (secret,) = (it for it in state.secrets if it.id == uri)
    return secret.latest_content or secret.tracked_content


def test_rotation_gives_one_client_new_keys_and_no_other(ctx, state, minio):
    before = ctx.run(ctx.on.config_changed(), state)
    after = ctx.run(ctx.on.action("rotate-key", params={"client": "mlflow"}), before)
    assert ctx.action_results == {"rotated": "mlflow"}
    assert keys(after, 5) != keys(before, 5)
    assert keys(after, 6) == keys(before, 6)
    assert minio.accounts["users"].keys() == {
        it["access-key"] for it in (keys(after, 5), keys(after, 6))
    }


def test_rotation_of_the_root_key_leaves_the_clients_theirs(ctx, state):
    before = ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.action("get-root-key"), before)
    old = dict(ctx.action_results)
    after = ctx.run(ctx.on.action("rotate-key", params={"root": True}), before)
    ctx.run(ctx.on.action("get-root-key"), after)
    assert ctx.action_results["secret-key"] != old["secret-key"]
    assert ctx.action_results["access-key"] == old["access-key"] == "minio-root"
    assert keys(after, 5) == keys(before, 5)


def test_rotation_for_a_stranger_fails_by_name(ctx, state):
    with pytest.raises(testing.ActionFailed, match="client=nobody: asks for no bucket; allowed"):
        ctx.run(ctx.on.action("rotate-key", params={"client": "nobody"}), state)
