import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import ops
import pytest
import yaml
from ops import testing

from interfaces.ingress import Ingress
from interfaces.ingress import Provider as Gateway
from interfaces.oauth import Requirer
from interfaces.postgresql_client import Credentials
from interfaces.postgresql_client import Provider as Database
from katonic import FILES, Invalid, NotYet, wire

ROOT = Path(__file__).parents[1]


def load(*names):
    """Every charm has a module of the name `charm`, so none of them stays imported by its name."""
    modules = []
    for name in names:
        path = ROOT / ("tests" if name == "world" else "src") / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        modules.append(importlib.util.module_from_spec(spec))
        sys.modules[name] = modules[-1]
        spec.loader.exec_module(modules[-1])
    for name in names:
        del sys.modules[name]
    return modules


realm, keycloak, _, admin, accounts, charm, world = load(
    "realm", "keycloak", "api", "admin", "accounts", "charm", "world"
)

METADATA = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
DEFAULTS = {key: it["default"] for key, it in METADATA["config"]["options"].items()}
LOGINS = admin.Logins("password-of-admin", "secret-of-charm", "secret-of-bootstrap")
DATABASE = Database(
    database="keycloak",
    endpoints="postgresql.lab.svc.cluster.local:5432",
    secret_user=Credentials(username="relation_id_1", password="password-of-database"),
)
WEB = Requirer(
    scopes="openid email",
    grant_types=("authorization_code", "refresh_token"),
    redirect_uri="https://web.example/callback",
)
MACHINE = Requirer(scopes="openid", grant_types=("client_credentials",), audience=("api",))


def options(**changes):
    changed = {key.replace("_", "-"): it for key, it in changes.items()}
    return wire.parse({**DEFAULTS, **changed}, realm.Options)


def wanted(**changes):
    return realm.realm(options(**changes))


def client(application, relation, asked, secret="secret", managers=()):
    return realm.client(application, relation, asked, f"{secret}-of-{application}", managers)


STATE = charm.State(
    application="keycloak",
    model="lab",
    unit=0,
    service="http://keycloak.lab.svc.cluster.local:8080",
    options=options(),
    logins=LOGINS,
    relation=1,
    database=DATABASE,
    ingress=None,
    clients={7: client("web", 7, WEB), 8: client("machine", 8, MACHINE)},
)


# The options


@pytest.mark.parametrize(
    "policy", ["", "length(12)", "length(8) and notUsername and regexPattern(^(a|b)+$)"]
)
def test_a_policy_of_known_words_is_taken_as_it_is(policy):
    assert realm.password_policy(policy) == policy


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("size(8)", "unknown 'size'; allowed: digits, forceExpired"),
        ("length(8), digits(1)", "'length(8), digits(1)'; allowed in its parentheses: a number"),
        ("length(8) or digits(1)", "allowed in its parentheses: a number"),
        ("length", "'length'; allowed in its parentheses: a number"),
        ("notUsername(3)", "allowed in its parentheses: nothing"),
        ("hashAlgorithm(md5)", "allowed in its parentheses: argon2|pbkdf2"),
        ("passwordBlacklist(words)", "unknown 'passwordBlacklist'"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_is_allowed(policy, reason):
    with pytest.raises(Invalid) as refused:
        realm.password_policy(policy)
    assert f"config password-policy={policy}: " in str(refused.value)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"session_idle": 60, "session_max": 30}, "config session-idle=60: .*session-max .30."),
        ({"token_lifetime": 31}, "config token-lifetime=31: .*session-idle .30."),
    ],
)
def test_times_that_contradict_each_other_are_refused(changes, reason):
    with pytest.raises(Invalid, match=reason):
        wanted(**changes)


@pytest.mark.parametrize("name", ["master", "Platform", "1st", "a b", ""])
def test_a_realm_that_cannot_be_is_refused_by_name(name):
    with pytest.raises(wire.WrongValueError, match=f"realm={name}: .*allowed: lower-case"):
        options(realm=name)


@pytest.mark.parametrize("text", ["Xmx1g", "-Da='b'", "-Xmx1g; rm", "$(id)"])
def test_java_options_that_a_shell_would_read_are_refused(text):
    with pytest.raises(wire.WrongValueError, match=r"java-options=.*allowed: words that begin"):
        options(java_options=text)
    assert options(java_options="-XX:TieredStopAtLevel=1 -Dx.y=a/b").java_options


def test_no_login_failures_is_no_lock():
    assert wanted(login_failures=0).settings["bruteForceProtected"] is False
    assert wanted(login_failures=3).settings["failureFactor"] == 3


# The plan


def test_without_a_database_it_asks_and_runs_nothing():
    plan = charm.plan(dataclasses.replace(STATE, database=None))
    assert plan.asks["database"].database == "keycloak"
    assert not plan.containers
    assert not plan.offers


GATEWAY = Gateway(ingress=Ingress(url="https://mlops.example/auth/"))


def test_the_issuer_is_the_service_until_there_is_a_gateway():
    provider = charm.plan(STATE).offers["oauth"][7]
    assert provider.issuer_url == "http://keycloak.lab.svc.cluster.local:8080/realms/platform"
    plan = charm.plan(dataclasses.replace(STATE, ingress=GATEWAY))
    assert plan.offers["oauth"][7].issuer_url == "https://mlops.example/auth/realms/platform"
    environment = plan.containers["keycloak"].services["keycloak"].environment
    assert environment["KC_HOSTNAME"] == "https://mlops.example/auth"
    assert environment["KC_PROXY_HEADERS"] == "xforwarded"


def test_people_come_by_the_gateway_and_applications_by_the_service():
    provider = charm.plan(dataclasses.replace(STATE, ingress=GATEWAY)).offers["oauth"][7]
    issuer = "https://mlops.example/auth/realms/platform"
    assert provider.authorization_endpoint == f"{issuer}/protocol/openid-connect/auth"
    service = "http://keycloak.lab.svc.cluster.local:8080/realms/platform/protocol/openid-connect"
    assert (
        provider.token_endpoint,
        provider.jwks_endpoint,
        provider.userinfo_endpoint,
        provider.introspection_endpoint,
    ) == tuple(f"{service}/{it}" for it in ("token", "certs", "userinfo", "token/introspect"))


def test_the_tile_leads_to_ones_own_account_and_its_health_is_asked_within_the_cluster():
    tile = charm.plan(dataclasses.replace(STATE, ingress=GATEWAY)).asks["catalogue"]
    assert tile.url == "https://mlops.example/auth/realms/platform/account"
    assert tile.health == "http://keycloak.lab.svc.cluster.local:8080/realms/platform"


def test_no_gateway_is_believed_where_there_is_none():
    environment = charm.plan(STATE).containers["keycloak"].services["keycloak"].environment
    assert "KC_PROXY_HEADERS" not in environment


def test_each_relation_has_a_client_and_a_secret_of_its_own():
    offers = charm.plan(STATE).offers["oauth"]
    assert {it.client_id: it.client_secret for it in offers.values()} == {
        "web-7": "secret-of-web",
        "machine-8": "secret-of-machine",
    }


def test_a_client_may_do_what_it_asked_for_and_no_more():
    web, machine = (it.wanted for it in STATE.clients.values())
    assert (web["standardFlowEnabled"], web["serviceAccountsEnabled"]) == (True, False)
    assert (machine["standardFlowEnabled"], machine["serviceAccountsEnabled"]) == (False, True)
    assert web["attributes"]["use.refresh.tokens"] == "true"
    assert machine["attributes"]["use.refresh.tokens"] == "false"


def test_peoples_programs_have_a_client_without_a_secret_that_only_a_browser_lets_in():
    *_, programs = realm.with_programs(list(STATE.clients.values()))
    assert programs.identifier == "programs"
    assert programs.audience == ["api"], "what the others' tokens are for"
    wanted = programs.wanted
    assert wanted["publicClient"]
    assert not wanted["standardFlowEnabled"]
    assert not wanted["directAccessGrantsEnabled"]
    assert wanted["attributes"]["oauth2.device.authorization.grant.enabled"] == "true"


def test_one_may_come_back_from_signing_out_to_where_one_comes_from_signing_in():
    assert STATE.clients[7].wanted["attributes"]["post.logout.redirect.uris"] == "+"


@pytest.mark.parametrize("text", ["Api", "api;ui", "a b", "-a"])
def test_user_managers_that_are_no_applications_are_refused_by_name(text):
    with pytest.raises(wire.WrongValueError, match=f"user-managers={text}: .*allowed: applicat"):
        options(user_managers=text)
    assert options(user_managers="katonic-api, web").managers == {"katonic-api", "web"}


def test_the_database_is_prepared_once_for_each_relation_by_the_leader():
    first, again = (
        charm.plan(dataclasses.replace(STATE, relation=it)).containers["keycloak"].steps[0]
        for it in (1, 5)
    )
    assert first.leader_only
    assert first.key != again.key


# The admin API


@pytest.fixture
def there():
    """Return a Keycloak whose database the charm's step has prepared."""
    with world.serve() as found:
        yield found


def clients_of(there, name="platform"):
    clients = there.realms[name]["clients"].values()
    return {it["clientId"]: it for it in clients if it["clientId"] != "realm-management"}


def sync(logins=LOGINS, clients=None, **changes):
    both = list(STATE.clients.values())
    return admin.sync(logins, wanted(**changes), both if clients is None else clients)


def test_the_temporary_client_makes_a_lasting_one_and_goes(there):
    assert "made client katonic-charm" in sync()
    assert clients_of(there, "master").keys() == {"admin-cli", "katonic-charm"}
    (user,) = there.realms["master"]["users"].values()
    assert (user["username"], user["password"]) == ("admin", "password-of-admin")
    assert user["roles"] == ["admin"]


def test_a_second_sync_changes_nothing(there):
    assert sync()
    before = json.dumps(there.realms)
    assert sync() == []
    assert json.dumps(there.realms) == before


def test_a_charm_that_finds_an_older_database_takes_it_over(there):
    sync()
    other = admin.Logins("other-password", "other-secret", "other-bootstrap")
    assert "made client katonic-charm" in sync(other)
    assert clients_of(there, "master")["katonic-charm"]["secret"] == "other-secret"
    (user,) = there.realms["master"]["users"].values()
    assert user["password"] == "other-password"


def test_a_rotated_password_is_set_once(there):
    sync()
    rotated = dataclasses.replace(LOGINS, administrator="new-password")
    assert sync(rotated) == ["set the password of admin"]
    assert sync(rotated) == []
    (user,) = there.realms["master"]["users"].values()
    assert user["password"] == "new-password"


def test_the_administrators_own_password_is_left_to_him(there):
    sync()
    (user,) = there.realms["master"]["users"].values()
    user["password"] = "his own"
    assert sync() == []


def test_the_options_are_set_and_nothing_else(there):
    sync()
    fields = there.realms["platform"]["fields"]
    fields |= {"displayName": "Ours", "rememberMe": True}
    changed = sync(password_policy="length(30)", self_registration=True, session_idle=10)
    assert sorted(changed) == [
        "set passwordPolicy",
        "set registrationAllowed",
        "set ssoSessionIdleTimeout",
    ]
    assert (fields["passwordPolicy"], fields["ssoSessionIdleTimeout"]) == ("length(30)", 600)
    assert (fields["displayName"], fields["rememberMe"]) == ("Ours", True)


@pytest.mark.parametrize(
    ("mode", "requirements", "setting_up"),
    [
        ("off", ("DISABLED", "ALTERNATIVE"), (False, False)),
        ("optional", ("CONDITIONAL", "ALTERNATIVE"), (True, False)),
        ("required", ("REQUIRED", "REQUIRED"), (True, True)),
    ],
)
def test_one_time_passwords_are_asked_for_by_mode(there, mode, requirements, setting_up):
    sync(mfa=mode)
    steps = {
        it["displayName"]: it["requirement"]
        for flow in there.realms["platform"]["flows"].values()
        for it in flow
    }
    assert (steps["Browser - Conditional 2FA"], steps["OTP Form"]) == requirements
    assert (steps["Direct Grant - Conditional OTP"], steps["OTP"]) == requirements
    assert steps["Username Password Form"] == "REQUIRED"
    action = there.realms["platform"]["actions"]["CONFIGURE_TOTP"]
    assert (action["enabled"], action["defaultAction"]) == setting_up
    assert sync(mfa=mode) == []


def test_the_client_of_a_gone_relation_goes_and_no_other(there):
    sync()
    there.add_client("platform", {"clientId": "by-hand", "secret": "x"})
    assert sync(clients=[STATE.clients[7]]) == ["deleted client machine-8"]
    assert clients_of(there).keys() == {"web-7", "by-hand"}


def test_a_client_is_made_with_all_that_it_may_not_do(there):
    sync()
    assert clients_of(there)["machine-8"]["standardFlowEnabled"] is False


def test_what_is_made_by_hand_in_a_client_of_ours_stays(there):
    sync()
    found = clients_of(there)["machine-8"]
    found["description"] = "by hand"
    found["protocolMappers"] = [*found["protocolMappers"], {"name": "by hand"}]
    more = client("machine", 8, Requirer(scopes="", grant_types=(), audience=("other",)))
    assert sync(clients=[STATE.clients[7], more])
    found = clients_of(there)["machine-8"]
    assert found["description"] == "by hand"
    assert [it["name"] for it in found["protocolMappers"]] == ["by hand", "katonic audience other"]


def test_a_rotated_secret_is_set_and_nothing_else(there):
    sync()
    rotated = [client("web", 7, WEB, "new-secret"), STATE.clients[8]]
    assert sync(clients=rotated) == ["client web-7: set secret"]
    assert clients_of(there)["web-7"]["secret"] == "new-secret-of-web"


def test_a_client_made_by_hand_is_not_taken_over(there):
    sync(clients=[])
    there.add_client("platform", {"clientId": "web-7", "secret": "x"})
    with pytest.raises(Invalid, match="rename or delete client web-7 of realm platform"):
        sync()


def test_the_platforms_role_is_made_and_an_administrators_words_about_it_stay(there):
    assert "made role platform-admin" in sync()
    role = there.realms["platform"]["roles"]["platform-admin"]
    role["description"] = "Ours"
    assert sync() == []
    assert role["description"] == "Ours"
    del there.realms["platform"]["roles"]["platform-admin"]
    assert sync() == ["made role platform-admin"]


MANAGING = ["manage-users", "query-users", "view-users"]


def test_who_is_on_the_list_manages_users_and_who_is_taken_off_does_not(there):
    web, machine = (
        client(*it, managers={"web"}) for it in (("web", 7, WEB), ("machine", 8, MACHINE))
    )
    changed = sync(clients=[web, machine])
    assert "let client web-7 manage users" in changed
    assert sorted(clients_of(there)["web-7"]["manages"]) == MANAGING
    assert not clients_of(there)["machine-8"]["manages"]
    assert sync(clients=[web, machine]) == []
    taken_off = client("web", 7, MACHINE)
    clients_of(there)["web-7"]["manages"].append("view-clients")
    changed = sync(clients=[taken_off, machine])
    assert changed[-1] == "no longer let client web-7 manage users"
    assert clients_of(there)["web-7"]["manages"] == ["view-clients"], "given by hand"


def test_a_role_that_a_manager_lost_is_given_again(there):
    manager = [client("machine", 8, MACHINE, managers={"machine"})]
    sync(clients=manager)
    clients_of(there)["machine-8"]["manages"].remove("view-users")
    assert sync(clients=manager) == ["let client machine-8 manage users"]
    assert sorted(clients_of(there)["machine-8"]["manages"]) == MANAGING


# People


ADA = {"username": "ada", "email": "ada@example.org"}


def test_a_new_person_gets_a_password_for_one_sign_in(there):
    sync()
    told = accounts.add(LOGINS, "platform", {**ADA, "first-name": "Ada"})
    ada = there.users("platform")["ada"]
    assert told == {"username": "ada", "password": ada["password"]}
    assert (ada["temporary"], ada["enabled"], ada["emailVerified"]) == (True, True, True)
    assert (ada["firstName"], ada["email"]) == ("Ada", "ada@example.org")
    assert "roles" not in ada
    assert ada["requiredActions"] == ["UPDATE_PASSWORD", "UPDATE_PROFILE"], "the name is lacking"
    whole = {"username": "eve", "email": "e@e", "first-name": "Eve", "last-name": "Ash"}
    accounts.add(LOGINS, "platform", whole)
    assert there.users("platform")["eve"]["requiredActions"] == ["UPDATE_PASSWORD"]


def test_each_password_has_something_of_every_class(there):
    sync()
    made = [accounts.add(LOGINS, "platform", {"username": it, "email": it}) for it in "abc"]
    passwords = {it["password"] for it in made}
    assert len(passwords) == 3
    for kind in (str.islower, str.isupper, str.isdigit, lambda it: not it.isalnum()):
        assert all(sum(map(kind, it)) == 6 for it in passwords)


def test_who_has_an_account_keeps_the_password_and_may_become_an_administrator(there):
    sync()
    accounts.add(LOGINS, "platform", ADA)
    before = there.users("platform")["ada"]["password"]
    told = accounts.add(LOGINS, "platform", {**ADA, "admin": True})
    assert told == {"username": "ada", "role": "platform-admin", "password": "stays as it is"}
    ada = there.users("platform")["ada"]
    assert (ada["password"], ada["roles"]) == (before, ["platform-admin"])


def test_a_person_from_elsewhere_gets_no_password(there):
    sync()
    there.realms["platform"]["users"]["u1"] = {"id": "u1", "username": "eve"} | {
        "requiredActions": [],
        "federationLink": "ldap",
    }
    told = accounts.add(LOGINS, "platform", {"username": "eve", "email": "eve@example.org"})
    assert told["password"] == "stays as it is"
    assert "password" not in there.users("platform")["eve"]


def test_a_password_that_a_policy_refused_is_given_the_next_time(there):
    sync(password_policy="length(30)")
    with pytest.raises(Invalid, match="invalidPasswordMinLengthMessage") as refused:
        accounts.add(LOGINS, "platform", ADA)
    sync()
    assert accounts.add(LOGINS, "platform", ADA)["password"] not in str(refused.value)
    assert there.users("platform")["ada"]["temporary"]


def test_the_address_of_another_is_refused_in_keycloaks_words(there):
    sync()
    accounts.add(LOGINS, "platform", ADA)
    with pytest.raises(NotYet, match="User exists with same email"):
        accounts.add(LOGINS, "platform", {**ADA, "username": "eve"})


def test_before_the_realm_is_there_nobody_is_added(there):
    with pytest.raises(NotYet, match="realm platform has no role platform-admin yet"):
        accounts.add(LOGINS, "platform", ADA)


def test_while_keycloak_does_not_answer_nobody_is_added():
    with pytest.raises(NotYet, match="keycloak does not answer"):
        accounts.add(LOGINS, "platform", ADA)


def test_a_charm_without_its_role_says_what_to_do(there):
    sync()
    clients_of(there, "master")["katonic-charm"]["roles"] = []
    with pytest.raises(Invalid, match=r"give client katonic-charm .* its role admin back"):
        sync()


def test_what_keycloak_refuses_is_told_in_its_words(there):
    with pytest.raises(Invalid, match="Password policy not found"):
        sync(password_policy="maxAuthAge(5)")  # which this small one does not know


def test_a_keycloak_that_does_not_answer_is_waited_for():
    with pytest.raises(NotYet, match="keycloak does not answer"):
        sync()


# The charm


def run(event, state):
    parts = {key: METADATA[key] for key in ("config", "actions")}
    meta = {key: it for key, it in METADATA.items() if key not in parts}
    ctx = testing.Context(charm.KeycloakCharm, meta=meta, **parts)
    return ctx, ctx.run(event(ctx.on), state)


@pytest.fixture
def settled(there, tmp_path):
    mount = testing.Mount(location="/charm/container", source=tmp_path)
    container = testing.Container(
        "keycloak", can_connect=True, execs=set(world.EXECS), mounts={"files": mount}
    )
    user = testing.Secret({"username": "relation_id_1", "password": "password-of-database"})
    given = {"database": "keycloak", "endpoints": "p:5432", "secret-user": user.id}
    asked = {"grant_types": '["client_credentials"]', "scope": "openid"}
    relations = {
        testing.Relation("database", remote_app_data=given),
        testing.Relation("oauth", id=50, remote_app_name="web", remote_app_data=asked),
        testing.PeerRelation("peers"),
    }
    state = testing.State(leader=True, containers={container}, relations=relations, secrets={user})
    _, out = run(lambda on: on.config_changed(), state)
    assert out.unit_status == ops.ActiveStatus()
    return out


def test_a_wrong_policy_is_blocked_by_name_while_sign_in_goes_on(settled, there):
    before = json.dumps(there.realms)
    wrong = dataclasses.replace(settled, config={"password-policy": "size(8)"})
    _, out = run(lambda on: on.config_changed(), wrong)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "config password-policy=size(8): unknown 'size'" in out.unit_status.message
    services = out.get_container("keycloak").service_statuses
    assert services["keycloak"] is ops.pebble.ServiceStatus.ACTIVE
    assert json.dumps(there.realms) == before


def test_the_password_that_the_action_shows_is_the_administrators(settled, there):
    ctx, out = run(lambda on: on.action("get-admin-password"), settled)
    (user,) = there.realms["master"]["users"].values()
    shown = ctx.action_results
    assert shown
    assert shown == {"username": "admin", "password": user["password"]}
    run(lambda on: on.action("rotate-password"), out)
    assert user["password"] != shown["password"]


def test_a_rotated_client_secret_reaches_keycloak_and_the_application(settled, there):
    before = clients_of(there)["web-50"]["secret"]
    chosen = {"client": "web"}
    ctx, out = run(lambda on: on.action("rotate-client-secret", params=chosen), settled)
    assert ctx.action_results == {"rotated": "web-50"}
    after = clients_of(there)["web-50"]["secret"]
    assert after != before
    contents = [it.latest_content for it in out.secrets if it.owner]
    assert {"secret": after} in contents


def test_the_password_of_a_new_person_is_shown_and_logged_nowhere(settled, there):
    asked = {"username": "ada", "email": "ada@example.org", "admin": True}
    ctx, out = run(lambda on: on.action("add-user", params=asked), settled)
    ada = there.users("platform")["ada"]
    shown = {"username": "ada", "role": "platform-admin", "password": ada["password"]}
    assert ctx.action_results == shown
    assert not [it for it in ctx.juju_log if ada["password"] in it.message]
    assert out.unit_status == ops.ActiveStatus()


def test_before_the_leader_made_the_seed_a_follower_waits(settled):
    nothing = dataclasses.replace(settled, leader=False, secrets=[], relations=[])
    _, out = run(lambda on: on.config_changed(), nothing)
    assert out.unit_status == ops.BlockedStatus("integrate database")
    asked = {"username": "ada", "email": "ada@example.org"}
    with pytest.raises(testing.ActionFailed, match="waiting for the leader to make the seed"):
        run(lambda on: on.action("add-user", params=asked), nothing)


def test_an_unknown_client_is_refused_with_those_there_are(settled):
    wrong = {"client": "nobody"}
    with pytest.raises(testing.ActionFailed, match="client=nobody: no relation; allowed: web"):
        run(lambda on: on.action("rotate-client-secret", params=wrong), settled)


@pytest.mark.parametrize("action", ["rotate-password", "rotate-client-secret"])
def test_a_follower_rotates_nothing(settled, action):
    follower = dataclasses.replace(settled, leader=False)
    with pytest.raises(testing.ActionFailed, match=f"juju run keycloak/leader {action}"):
        run(lambda on: on.action(action), follower)


def test_the_start_script_becomes_java_itself(tmp_path):
    """kc.sh is read by the script, and the java that it calls takes the script's process."""
    kc = tmp_path / "kc.sh"
    kc.write_text('#!/bin/sh\neval "\'$JAVA\'" "-Dx=1" "$@"\necho kept a shell\n')
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\necho "$$ $@ $JAVA_OPTS_KC_HEAP"\n')
    java.chmod(0o755)
    script = charm.plan(STATE).containers["keycloak"].files[f"{FILES}/keycloak.sh"]
    (tmp_path / "start.sh").write_text(script)
    process = subprocess.Popen(
        ["bash", "-c", f". {tmp_path}/start.sh", str(kc), "start", "--optimized"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate()
    assert said.startswith(f"{process.pid} -Dx=1 start --optimized -Xms64m -Xmx")
    assert "kept a shell" not in said
