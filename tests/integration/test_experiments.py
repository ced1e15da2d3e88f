"""A data scientist's day with MLflow's own client, and where the work ends up."""

import json
import os
import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from deployed import ON_SANDBOX, Platform
from keycloak_api import Keycloak

with warnings.catch_warnings():  # it warns of itself when it is imported
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import artifacts, entities, pyfunc

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's client warns of its own ways

SIZE = 50 * 1024 * 1024

on_the_sandbox = pytest.mark.skipif(not ON_SANDBOX, reason="this machine knows the name there")


@pytest.fixture(scope="module")
def run_id(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a run with parameters, 1,000 metrics, an artifact of 50 MB and a registered model."""

    class Doubling(pyfunc.PythonModel):  # pyright: ignore[reportPrivateImportUsage]
        """A model small enough to see through."""

        def predict(self, context, model_input, params=None):  # pyright: ignore
            return [2 * it for it in model_input]

    os.environ["MLFLOW_TRACKING_URI"] = platform.url("mlflow", 5000)
    mlflow.set_experiment("first-slice")
    blob = tmp_path_factory.mktemp("artifact") / "weights.bin"
    blob.write_bytes(os.urandom(SIZE))
    with mlflow.start_run() as run:
        mlflow.log_params({"depth": 3, "rate": 0.1})
        for step in range(0, 1000, 100):
            batch = [
                entities.Metric("loss", 1 / (1 + it), 0, it) for it in range(step, step + 100)
            ]
            mlflow.MlflowClient().log_batch(run.info.run_id, metrics=batch)
        mlflow.log_artifact(str(blob))
        pyfunc.log_model(name="model", python_model=Doubling(), registered_model_name="doubling")
    return run.info.run_id


def test_a_run_with_a_thousand_metrics_is_in_postgresql(platform, run_id):
    name = database_of(platform, "mlflow")
    counted = platform.sql(
        f"select count(*) from metrics where run_uuid = '\\''{run_id}'\\''", database=name
    )
    assert counted == "1000"
    history = mlflow.MlflowClient().get_metric_history(run_id, "loss")
    assert len(history) == 1000


def test_an_artifact_comes_back_as_it_went(run_id, tmp_path):
    path = artifacts.download_artifacts(
        run_id=run_id, artifact_path="weights.bin", dst_path=str(tmp_path)
    )
    assert Path(path).stat().st_size == SIZE


def test_a_registered_model_is_loaded_and_works(run_id):
    model = pyfunc.load_model("models:/doubling/1")
    assert list(model.predict([1, 2, 3])) == [2, 4, 6]


@pytest.fixture
def outside(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return MLflow's address for programs outside of the cluster, which trust the gateway."""
    shown = platform.juju.run("istio-ingress/0", "get-certificate").results
    (tmp_path / "katonic.pem").write_text(shown["authority"])
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "katonic.pem"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return f"https://{platform.juju.config('istio-ingress')['external-hostname']}/mlflow"


@pytest.fixture
def token(platform: Platform) -> Iterator[str]:
    """Yield a token for the platform of a client that an administrator has made by hand."""
    keycloak = Keycloak(platform)
    admin, clients = keycloak.admin(), "/admin/realms/platform/clients"
    audience = {
        "name": "the platform",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": "katonic-api", "access.token.claim": "true"},
    }
    trainer = {
        "clientId": "trainer",
        "secret": secrets.token_urlsafe(),
        "serviceAccountsEnabled": True,
        "protocolMappers": [audience],
    }
    keycloak.post(clients, trainer, admin)
    asked = {"client-id": "trainer", "client-secret": trainer["secret"]}
    yield keycloak.own_token(asked)
    (made,) = keycloak.get(f"{clients}?clientId=trainer", keycloak.admin())
    keycloak.delete(f"{clients}/{made['id']}", keycloak.admin())


@on_the_sandbox
def test_a_program_outside_logs_a_run_and_an_artifact_with_its_token(
    outside, token, monkeypatch, tmp_path
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    client = mlflow.MlflowClient(tracking_uri=outside)
    experiment = client.create_experiment(f"outside-{secrets.token_hex(4)}")
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "loss", 0.1)
    (tmp_path / "word.txt").write_text("kept")
    client.log_artifact(run, str(tmp_path / "word.txt"))
    assert client.get_run(run).data.metrics == {"loss": 0.1}
    assert Path(client.download_artifacts(run, "word.txt", str(tmp_path))).read_text() == "kept"


@on_the_sandbox
@pytest.mark.parametrize("forged", ["", "a.b.c"])
def test_a_program_outside_without_a_token_of_the_platform_is_refused(
    outside, forged, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", forged)
    with pytest.raises(mlflow.MlflowException, match="401"):
        mlflow.MlflowClient(tracking_uri=outside).search_experiments()


def test_artifacts_are_encrypted_at_rest(platform, run_id):
    s3, bucket = store(platform)
    (key,) = (it for it in keys(s3, bucket) if it.endswith(f"{run_id}/artifacts/weights.bin"))
    head = s3.head_object(Bucket=bucket, Key=key)
    assert head["ContentLength"] == SIZE
    assert head["ServerSideEncryption"] in ("AES256", "aws:kms")


def test_mlflows_key_reaches_no_other_bucket(platform, run_id, deploy_client):
    other = deploy_client("neighbour", bucket="neighbour")
    platform.juju.integrate(f"{other}:s3", "mlflow-minio:s3")
    platform.settle(other, "mlflow-minio")
    s3, _ = store(platform)
    for call in (
        lambda: s3.list_objects_v2(Bucket="neighbour"),
        lambda: s3.put_object(Bucket="neighbour", Key="x", Body=b"x"),
        lambda: s3.create_bucket(Bucket=f"mine-{secrets.token_hex(4)}"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            call()
    assert bucket_names(s3) in ([], [store(platform)[1]])


def bucket_names(s3) -> list[str]:
    try:
        return [it["Name"] for it in s3.list_buckets()["Buckets"]]
    except ClientError:
        return []


def keys(s3, bucket: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [it["Key"] for page in pages for it in page.get("Contents", [])]


def store(platform: Platform):
    """Return MLflow's own access to its bucket, as the relation gave it."""
    unit = json.loads(platform.juju.cli("show-unit", "mlflow/0", "--format", "json"))["mlflow/0"]
    (relation,) = (it for it in unit["relation-info"] if it["endpoint"] == "artifacts")
    bag = relation["application-data"]
    content = secret(platform, bag["secret-extra"])
    s3 = boto3.client(
        "s3",
        endpoint_url=platform.url("mlflow-minio", 9000),
        aws_access_key_id=content["access-key"],
        aws_secret_access_key=content["secret-key"],
        region_name=bag.get("region", "us-east-1"),
    )
    return s3, bag["bucket"]


def secret(platform: Platform, uri: str) -> dict[str, str]:
    """Return a secret's content, as an administrator can see it."""
    identifier = uri.rpartition("/")[2].removeprefix("secret:")
    return dict(platform.juju.show_secret(identifier, reveal=True).content)


def database_of(platform: Platform, application: str) -> str:
    """Return the database that the application was given."""
    name = f"{application}/0"
    unit = json.loads(platform.juju.cli("show-unit", name, "--format", "json"))[name]
    (relation,) = (it for it in unit["relation-info"] if it["endpoint"] == "database")
    return relation["application-data"]["database"]
