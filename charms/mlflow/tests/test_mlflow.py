import base64
import dataclasses
import fnmatch
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import ops
import pytest
import yaml
from ops import testing

from interfaces.ingress import Ingress
from interfaces.ingress import Provider as Gateway
from interfaces.postgresql_client import Credentials
from interfaces.postgresql_client import Provider as Database
from interfaces.s3 import Keys
from interfaces.s3 import Provider as Store
from katonic import FILES, NotYet, wire

ROOT = Path(__file__).parents[1]


def load(*names):
    """Every charm has a module of the name `charm`, so none of them stays imported by its name."""
    modules = []
    for name in names:
        spec = importlib.util.spec_from_file_location(name, ROOT / f"src/{name}.py")
        assert spec
        assert spec.loader
        modules.append(importlib.util.module_from_spec(spec))
        sys.modules[name] = modules[-1]
        spec.loader.exec_module(modules[-1])
    for name in names:
        del sys.modules[name]
    return modules


tracking, charm = load("tracking", "charm")

METADATA = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
DEFAULTS = {key: it["default"] for key, it in METADATA["config"]["options"].items()}
DATABASE = Database(
    database="mlflow",
    endpoints="postgresql.lab.svc.cluster.local:5432",
    secret_user=Credentials(username="relation_id_1", password="pass/word"),
)
STORE = Store(
    bucket="mlflow",
    endpoint="http://minio.lab.svc.cluster.local:9000",
    s3_uri_style="path",
    secret_extra=Keys(access_key="key-of-store", secret_key="secret-of-store"),
)


def options(**changes):
    changed = {key.replace("_", "-"): it for key, it in changes.items()}
    return wire.parse({**DEFAULTS, **changed}, charm.Options)


STATE = charm.State(
    application="mlflow",
    model="lab",
    unit=0,
    host="mlflow.lab.svc.cluster.local",
    addresses=("10.1.0.7", "10.96.0.9"),
    options=options(),
    version="3.17.2",
    passphrase="the-passphrase",
    relation=1,
    database=DATABASE,
    artifacts=STORE,
    ingress=None,
)


def store(**changes):
    return msgspec.structs.replace(STORE, **changes)


def planned(**changes):
    return charm.plan(dataclasses.replace(STATE, **changes)).containers["mlflow"]


def service(**changes):
    return planned(**changes).services["mlflow"]


def allows(environment, host):
    """Return whether MLflow 3.17 takes a request to this host (mlflow.server.security_utils)."""
    patterns = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    return any(fnmatch.fnmatch(host, it) if "*" in it else host == it for it in patterns)


@pytest.mark.parametrize("missing", ["database", "artifacts"])
def test_without_a_database_or_a_bucket_it_asks_and_runs_nothing(missing):
    plan = charm.plan(dataclasses.replace(STATE, **{missing: None}))
    assert plan.asks["database"].database == "mlflow"
    assert plan.asks["artifacts"].bucket == "mlflow"
    assert not plan.containers


def test_before_the_leader_made_the_passphrase_it_waits():
    with pytest.raises(NotYet):
        planned(passphrase=None)


def test_passwords_reach_the_server_as_secrets_alone():
    it = service()
    assert it.secrets["MLFLOW_BACKEND_STORE_URI"] == (
        "postgresql+psycopg2://relation_id_1:pass%2Fword"
        "@postgresql.lab.svc.cluster.local:5432/mlflow"
    )
    assert it.secrets["AWS_SECRET_ACCESS_KEY"] == "secret-of-store"
    assert it.secrets["MLFLOW_CRYPTO_KEK_PASSPHRASE"] == "the-passphrase"
    seen = [it.command, *it.environment.values(), *planned().steps[0].argv]
    assert not [
        text for text in seen if "pass%2Fword" in text or "secret-" in text or "the-pass" in text
    ]


def test_the_schema_is_upgraded_by_the_leader_for_each_version_and_database():
    (step,) = planned().steps
    assert step.leader_only
    assert step.key == planned(artifacts=store(bucket="other")).steps[0].key
    keys = {step.key, planned(version="3.18.0").steps[0].key, planned(relation=9).steps[0].key}
    assert len(keys) == 3


def test_another_password_upgrades_nothing():
    rotated = Database(
        database="mlflow",
        endpoints=DATABASE.endpoints,
        secret_user=Credentials(username="relation_id_1", password="new"),
    )
    assert planned(database=rotated).steps[0].key == planned().steps[0].key


@pytest.mark.parametrize(
    "host",
    [
        "mlflow:5000",
        "mlflow.lab:5000",
        "mlflow.lab.svc:5000",
        "mlflow.lab.svc.cluster.local:5000",
        "10.96.0.9:5000",
        "10.1.0.7:5000",
        "localhost:5000",
        "localhost:38123",
        "127.0.0.1:5000",
    ],
)
def test_each_name_of_the_service_is_allowed(host):
    assert allows(service().environment, host)


@pytest.mark.parametrize("host", ["evil.example", "10.1.0.8:5000", "mlflow:80", ""])
def test_any_other_name_is_not(host):
    assert not allows(service().environment, host)


def test_the_gateway_and_what_the_user_names_are_allowed_and_their_pages_may_write():
    gateway = Gateway(ingress=Ingress(url="https://mlops.example:8443/lab-mlflow"))
    named = options(hosts="ml.example, *.lab:8443")
    environment = service(ingress=gateway, options=named).environment
    for host in ("mlops.example:8443", "ml.example", "x.lab:8443"):
        assert allows(environment, host)
    origins = environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert {"https://mlops.example:8443", "http://ml.example", "http://mlflow:5000"} <= {*origins}


def test_it_tells_where_it_answers_once_it_runs():
    told = charm.plan(STATE).offers["tracking"]
    assert told.url == "http://mlflow.lab.svc.cluster.local:5000"
    assert not charm.plan(dataclasses.replace(STATE, database=None)).offers


def test_its_tile_is_there_once_a_browser_finds_it():
    assert not charm.plan(STATE).asks["catalogue"]
    gateway = Gateway(ingress=Ingress(url="https://mlops.example/mlflow"))
    (tile,) = charm.plan(dataclasses.replace(STATE, ingress=gateway)).asks["catalogue"]
    assert tile.url == "https://mlops.example/mlflow/"
    assert tile.health == "http://mlflow.lab.svc.cluster.local:5000/health"


@pytest.mark.parametrize("hosts", ["a b", "http://x", "x;y"])
def test_hosts_that_are_none_are_refused_by_name(hosts):
    with pytest.raises(wire.WrongValueError, match=f"hosts={hosts}: .*allowed: names"):
        options(hosts=hosts)


def test_artifacts_go_below_the_path_that_the_bucket_has():
    environment = service(artifacts=store(path="teams/one/")).environment
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://mlflow/teams/one"


@pytest.mark.filterwarnings("default")
def test_the_store_in_the_server_can_make_no_urls_for_clients():
    mixins = pytest.importorskip("mlflow.store.artifact.artifact_repo")
    (plugin,) = load("proxied_store")
    store = plugin.ProxiedArtifactRepository("s3://mlflow/1")
    for name in ("MultipartUploadMixin", "MultipartDownloadMixin", "PresignedUploadMixin"):
        assert not isinstance(store, getattr(mixins, name))
        assert isinstance(store._store, getattr(mixins, name))
    files = planned().files
    assert files[f"{FILES}/python/proxied_store.py"] == Path(plugin.__file__).read_text()


def test_a_stores_own_authorities_are_trusted():
    pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"
    chain = (pem, base64.b64encode(pem.encode()).decode())
    it = planned(artifacts=store(tls_ca_chain=chain))
    path = it.services["mlflow"].environment["AWS_CA_BUNDLE"]
    assert it.files[path] == f"{pem}\n{pem}"


def test_periodic_jobs_run_in_one_unit():
    jobs = options(jobs=True)
    found = [service(options=jobs, unit=it).environment for it in (0, 1, 2)]
    assert [it["MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS"] for it in found] == [
        "true",
        "false",
        "false",
    ]


def test_the_version_is_read_from_the_image(tmp_path):
    packages = tmp_path / "lib/python3.11/site-packages"
    for name in ("mlflow-3.17.2.dist-info", "mlflow_skinny-3.17.2.dist-info", "mlflow"):
        (packages / name).mkdir(parents=True)
    mount = testing.Mount(location="/opt/mlflow", source=tmp_path)
    assert seen({"image": mount}, can_connect=True) == "3.17.2"


@pytest.mark.parametrize("can_connect", [True, False])
def test_a_version_that_cannot_be_seen_is_none(can_connect):
    assert seen({}, can_connect) == ""


def seen(mounts, can_connect):
    """Return the version that the charm sees in such a container."""
    found = []

    class Looking(ops.CharmBase):
        def __init__(self, framework):
            super().__init__(framework)
            found.append(tracking.version(self.unit.get_container("mlflow")))

    ctx = testing.Context(Looking, meta={"name": "looking", "containers": {"mlflow": {}}})
    container = testing.Container("mlflow", can_connect=can_connect, mounts=mounts)
    ctx.run(ctx.on.update_status(), testing.State(containers={container}))
    return found[0]


def test_a_process_of_a_killed_server_goes_with_it(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(planned().files[f"{FILES}/python/sitecustomize.py"])
    parent = (
        "import subprocess, sys, time;"
        "it = subprocess.Popen([sys.executable, '-c', 'import time; print(1, flush=True);"
        " time.sleep(60)'], stdout=subprocess.PIPE);"
        "it.stdout.readline(); print(it.pid, flush=True); time.sleep(60)"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        [sys.executable, "-c", parent], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        worker = Path("/proc") / server.stdout.readline().strip()
        assert alive(worker)
        server.kill()
    for _ in range(100):
        if not alive(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlives its server")


def alive(process):
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
