"""What the charm wants: pages that run whatever lacks, and a gateway that is told where to ask."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import ops
import pytest
import yaml
from cryptography.fernet import Fernet
from katonic_ui.identity import HEADERS
from katonic_ui.settings import read
from ops import testing

from interfaces import forward_auth, ingress, katonic_api, mongodb_client, oauth
from katonic import Invalid, NotYet

ROOT = Path(__file__).parents[1]
METADATA = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"src/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


ui = load("ui")
charm = load("charm")
for own in ("ui", "charm"):
    del sys.modules[own]


def example(interface: Any) -> Any:
    return next(it for it in interface.EXAMPLES if isinstance(it, interface.Provider))


OPTIONS = ui.Options(title="Lab", support_link="", session_idle=30, session_max=600)
STATE = charm.State(
    application="katonic-ui",
    model="lab",
    unit=1,
    host="katonic-ui.lab.svc.cluster.local",
    options=OPTIONS,
    keys=("key-2", "key-1"),
    sessions=example(mongodb_client),
    oauth=example(oauth),
    api=example(katonic_api),
    ingress=ingress.Provider(ingress=ingress.Ingress(url="https://mlops.example/")),
    gateways={5: forward_auth.Requirer(ingress_app_names=("mlflow", "files"))},
)


def service(state: Any) -> Any:
    return charm.plan(state).containers["katonic-ui"].services["katonic-ui"]


def told(state: Any) -> Any:
    """Return the settings as the program reads them."""
    it = service(state)
    return read({**it.environment, **it.secrets})


def test_the_pages_are_told_all_that_there_is():
    settings = told(STATE)
    assert settings.url == "https://mlops.example"
    assert settings.title == "Lab"
    assert (settings.session_idle, settings.session_max) == (1800, 36000)
    assert settings.session_keys == ("key-2", "key-1")
    assert settings.database == STATE.sessions.url
    assert settings.api.audience == "katonic-api"
    assert settings.openid.issuer == STATE.oauth.issuer_url
    assert settings.openid.client_secret == STATE.oauth.client_secret


@pytest.mark.parametrize("lacking", ["sessions", "oauth", "api", "ingress"])
def test_whatever_lacks_the_pages_run_and_know_it(lacking):
    settings = told(dataclasses.replace(STATE, **{lacking: None}))
    known = {"sessions": settings.database, "oauth": settings.openid, "api": settings.api}
    assert [name for name, it in known.items() if it is None] == [lacking][: lacking in known]


def test_without_a_gateway_they_are_found_by_their_service():
    plan = charm.plan(dataclasses.replace(STATE, ingress=None))
    inside = "http://katonic-ui.lab.svc.cluster.local:8080"
    assert told(dataclasses.replace(STATE, ingress=None)).url == inside
    assert plan.asks["oauth"].redirect_uris[0] == f"{inside}/session/callback"


def test_the_client_is_for_people_who_come_back_and_its_tokens_are_for_the_api():
    asked = charm.plan(STATE).asks["oauth"]
    assert asked.redirect_uris == (
        "https://mlops.example/session/callback",
        "https://mlops.example/signed-out",
    )
    assert asked.audience == ("katonic-api",)
    assert asked.grant_types == ("authorization_code", "refresh_token")
    assert charm.plan(dataclasses.replace(STATE, api=None)).asks["oauth"].audience == ()


def test_a_gateway_is_told_where_to_ask_and_what_it_gets():
    (offer,) = charm.plan(STATE).offers["forward-auth"].values()
    inside = "http://katonic-ui.lab.svc.cluster.local:8080"
    assert offer.decisions_address == f"{inside}/forward-auth"
    assert offer.app_names == ("mlflow", "files")
    assert offer.headers == HEADERS


def test_authorities_of_the_provider_are_trusted_when_it_has_its_own():
    chain = dataclasses.replace(STATE, oauth=replaced(STATE.oauth, ca_chain=("-----BEGIN A",)))
    container = charm.plan(chain).containers["katonic-ui"]
    path = container.services["katonic-ui"].environment["SSL_CERT_FILE"]
    assert container.files[path] == "-----BEGIN A"
    assert "SSL_CERT_FILE" not in service(STATE).environment


def replaced(bag: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(bag, **changes)


def test_without_a_key_nothing_is_served():
    with pytest.raises(NotYet, match="session key"):
        charm.plan(dataclasses.replace(STATE, keys=None))


def test_a_session_is_not_idle_for_longer_than_it_lasts():
    wrong = ui.Options(title="Lab", support_link="", session_idle=601, session_max=600)
    with pytest.raises(Invalid, match="session-idle=601: longer than a session lasts"):
        ui.checked(wrong)


def test_a_key_is_one_of_fernets_and_three_old_ones_are_kept():
    content = {"value": ui.new_key()}
    seen = [content["value"]]
    for _ in range(5):
        content = ui.rotated(content)
        seen.insert(0, content["value"])
        assert ui.keys(content) == tuple(seen[:4])
    assert all(Fernet(it) for it in seen)
    assert len(set(seen)) == 6


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"title": ""}, "title="),
        ({"support-link": "javascript:alert(1)"}, "support-link=javascript:alert(1)"),
        ({"session-idle": 0}, "session-idle=0"),
        ({"session-idle": 700}, "session-idle=700"),
    ],
)
def test_a_wrong_option_is_named(config, words):
    ctx = testing.Context(
        charm.KatonicUiCharm, meta=meta(), config=METADATA["config"], actions=METADATA["actions"]
    )
    state = testing.State(leader=True, config=config, containers={testing.Container("katonic-ui")})
    out = ctx.run(ctx.on.config_changed(), state)
    assert out.unit_status.name == "blocked"
    assert "integrate" in out.unit_status.message or words in out.unit_status.message
    assert any(words in it.message for it in ctx.juju_log)


def test_the_session_key_is_rotated_by_the_leader_alone():
    ctx = testing.Context(
        charm.KatonicUiCharm, meta=meta(), config=METADATA["config"], actions=METADATA["actions"]
    )
    secret = testing.Secret({"value": "one"}, label="session-key", owner="app")
    state = testing.State(
        leader=True, secrets={secret}, containers={testing.Container("katonic-ui")}
    )
    out = ctx.run(ctx.on.action("rotate-session-key"), state)
    (kept,) = out.secrets
    assert kept.latest_content is not None
    assert kept.latest_content["older"] == "one"
    follower = dataclasses.replace(state, leader=False)
    with pytest.raises(testing.ActionFailed, match="katonic-ui/leader rotate-session-key"):
        ctx.run(ctx.on.action("rotate-session-key"), follower)


def meta() -> dict[str, Any]:
    return {key: it for key, it in METADATA.items() if key not in ("config", "actions")}


def test_the_metrics_have_a_port_to_which_no_gateway_leads():
    plan = charm.plan(STATE)
    assert plan.ports == [8080, 9090]
    assert plan.asks["ingress"][0].port == 8080
    assert isinstance(plan.status, ops.StatusBase | None)
