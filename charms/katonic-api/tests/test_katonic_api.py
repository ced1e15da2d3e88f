"""What the charm wants, and how the servers hear of the platform's services."""

import dataclasses
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from interfaces import catalogue, ingress, k8s_service, mongodb_client, oauth, s3
from katonic import NotYet

ROOT = Path(__file__).parents[1]


def load(name: str, folder: str = "src") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{folder}/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.modules["api"] = api = load("api")
charm, world = load("charm"), load("world", "tests")
del sys.modules["api"]


def example(interface: ModuleType, side: str = "Provider") -> Any:
    return next(it for it in interface.EXAMPLES if type(it).__name__ == side)


STATE = charm.State(
    application="katonic-api",
    model="lab",
    unit=1,
    host="katonic-api.lab.svc.cluster.local",
    options=charm.Options(
        workers=2, log_level="info", token_leeway=10, upload_limit=5120, audit_days=365
    ),
    schema="5ce3a",
    operator="0perator",
    relation=7,
    database=example(mongodb_client),
    oauth=example(oauth),
    ingress=example(ingress),
    experiments=example(k8s_service),
    files=example(s3),
    tiles={"mlflow": example(catalogue, "Requirer")},
)


def state(**changes: Any) -> Any:
    return dataclasses.replace(STATE, **changes)


def service(wanted: Any) -> Any:
    return wanted.containers["katonic-api"].services["katonic-api"]


def test_everything_that_is_related_reaches_the_server():
    wanted = charm.plan(STATE)
    variables = service(wanted).environment
    assert variables["KATONIC_ISSUER"] == STATE.oauth.issuer_url
    assert variables["KATONIC_JWKS_URL"] == STATE.oauth.jwks_endpoint
    assert variables["KATONIC_AUDIENCE"] == "katonic-api"
    assert variables["KATONIC_EXPERIMENTS_URL"] == "http://mlflow.katonic.svc.cluster.local:5000"
    assert variables["KATONIC_ROOT_PATH"] == "/katonic-mlflow"
    assert variables["KATONIC_BUCKET"] == STATE.files.bucket
    assert variables["KATONIC_UPLOAD_LIMIT"] == "5120000000"
    assert wanted.ports == [8080]


def test_no_secret_is_in_the_open():
    it = service(charm.plan(STATE))
    for secret in (
        STATE.database.password,
        STATE.oauth.client_secret,
        STATE.files.secret_key,
        "0perator",
    ):
        assert secret in " ".join(it.secrets.values())
        assert secret not in f"{it.command} {it.environment}"


def test_it_asks_for_a_client_that_looks_after_people_and_for_a_bucket():
    asks = charm.plan(state(database=None)).asks
    assert asks["oauth"].grant_types == ("client_credentials",)
    assert asks["oauth"].scopes == "openid profile email groups"
    assert asks["oauth"].audience == ()
    assert asks["files"].bucket == "katonic-api"
    assert asks["ingress"][0].strip_prefix
    assert asks["ingress"][1].host == "katonic-api-1.katonic-api-endpoints.lab.svc.cluster.local"


@pytest.mark.parametrize("lacks", ["database", "oauth"])
def test_without_a_database_or_an_issuer_nothing_runs_and_nobody_is_told(lacks):
    wanted = charm.plan(state(**{lacks: None}))
    assert not wanted.containers
    assert not wanted.offers


def test_experiments_files_and_a_gateway_may_lack():
    variables = service(charm.plan(state(experiments=None, files=None, ingress=None))).environment
    assert not {it for it in variables if "BUCKET" in it or "EXPERIMENTS" in it or "ROOT" in it}


def test_it_tells_where_it_is_and_whom_tokens_are_to_be_for():
    offer = charm.plan(STATE).offers["api"]
    assert offer.url == "http://katonic-api.lab.svc.cluster.local:8080"
    assert offer.audience == "katonic-api"


def test_the_database_is_migrated_by_the_leader_once_for_each_version_and_database():
    (step,) = charm.plan(STATE).containers["katonic-api"].steps
    assert step.leader_only
    assert step.key == "5ce3a-7"
    (other,) = charm.plan(state(relation=8)).containers["katonic-api"].steps
    assert other.key != step.key
    rotated = dataclasses.replace(STATE, operator="another")
    assert charm.plan(rotated).containers["katonic-api"].steps[0].key == step.key


def test_a_new_tile_restarts_nothing():
    more = {**STATE.tiles, "files": example(catalogue, "Requirer")}
    one, other = charm.plan(STATE), charm.plan(state(tiles=more))
    assert one.containers == other.containers
    assert one.effects != other.effects


def test_certificates_reach_the_server_as_files():
    signed = dataclasses.replace(
        STATE,
        database=mongodb_client.Provider(
            database="d",
            endpoints="h:1",
            secret_user=STATE.database.secret_user,
            secret_tls=mongodb_client.Tls(tls="true", tls_ca="-----BEGIN CERTIFICATE-----\nD"),
        ),
        files=s3.Provider(
            bucket="b",
            secret_extra=STATE.files.secret_extra,
            tls_ca_chain=("-----BEGIN CERTIFICATE-----\nF",),
        ),
    )
    container = charm.plan(signed).containers["katonic-api"]
    variables = service(charm.plan(signed)).environment
    for variable, letter in (("KATONIC_DATABASE_AUTHORITIES", "D"), ("AWS_CA_BUNDLE", "F")):
        assert container.files[variables[variable]].endswith(letter)
    assert "KATONIC_AUTHORITIES" not in variables


def test_the_server_is_told_the_services_once():
    with world.serve() as told:
        assert api.tell("0perator", STATE.tiles) == ["told the services: mlflow"]
        assert api.tell("0perator", STATE.tiles) == []
        (tile,) = told["items"]
        assert tile["name"] == "mlflow"
        assert tile["title"] == "Experiments"
        assert tile["health"] == "http://mlflow.katonic.svc.cluster.local:5000/health"
        assert api.tell("0perator", {}) == ["told the services: none"]
        assert told["items"] == []


def test_while_the_server_does_not_answer_it_is_told_later():
    with pytest.raises(NotYet, match="services"):
        api.tell("0perator", STATE.tiles)


def test_the_server_has_longer_to_stop_than_it_takes_to_end():
    from katonic_api.serving import DRAIN, LINGER

    assert service(charm.plan(STATE)).kill_delay > LINGER + DRAIN


def test_alerts_and_dashboard_ask_for_metrics_that_there_are():
    from katonic_api import metrics

    known = set(re.findall(r"# HELP (\w+)", metrics.text().decode()))
    texts = [*ROOT.glob("src/prometheus_alert_rules/*"), *ROOT.glob("src/grafana_dashboards/*")]
    assert len(texts) == 2
    for path in texts:
        asked = set(re.findall(r"\bkatonic_api_\w+", path.read_text()))
        assert asked
        assert {it.removesuffix("_bucket").removesuffix("_total") for it in asked} <= {
            it.removesuffix("_total") for it in known
        }, path.name


def test_every_alert_says_what_is_the_matter_and_how_bad_it_is():
    (path,) = ROOT.glob("src/prometheus_alert_rules/*.rules")
    (group,) = yaml.safe_load(path.read_text())["groups"]
    for it in group["rules"]:
        assert it["labels"]["severity"] in ("warning", "critical")
        assert it["annotations"].keys() == {"summary", "description"}
        assert it["for"]


def test_the_dashboards_panels_do_not_overlap():
    (path,) = ROOT.glob("src/grafana_dashboards/*.json")
    cells = [
        (x, y)
        for it in (panel["gridPos"] for panel in json.loads(path.read_text())["panels"])
        for x in range(it["x"], it["x"] + it["w"])
        for y in range(it["y"], it["y"] + it["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_option_has_the_default_that_the_server_has():
    from katonic_api.settings import Settings

    said = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())["config"]["options"]
    fields = Settings.model_fields
    assert said["workers"]["default"] == fields["workers"].default
    assert said["log-level"]["default"] == fields["log_level"].default
    assert said["token-leeway"]["default"] == fields["leeway"].default
    assert said["audit-days"]["default"] == fields["audit_days"].default
