"""What the gateway is told: who may pass, as whom, and where the others are sent."""

import asyncio
import base64
import dataclasses
import time

import pytest
from browser import SETTINGS, URL
from identity_provider import CLIENT, _key
from joserfc import jwt

pytestmark = pytest.mark.anyio
BROWSER = {"accept": "text/html,application/xhtml+xml"}
HEADERS = {
    "x-katonic-user": "ada",
    "x-katonic-user-id": "id-of-ada",
    "x-katonic-email": "ada@mlops.example",
    "x-katonic-groups": "/research",
    "x-katonic-roles": "",
}


def who(answer) -> dict[str, str]:
    return {key: it for key, it in answer.headers.items() if key.startswith("x-katonic-")}


async def ask(platform, token: str, method: str = "GET"):
    headers = {"authorization": f"Bearer {token}"}
    return await platform.browser().ask(method, "/forward-auth/mlflow/", headers)


async def test_who_is_signed_in_may_pass_as_themselves(platform):
    browser = await platform.signed_in("ada")
    answer = await browser.ask("GET", "/forward-auth/mlflow/", BROWSER)
    assert answer.status_code == 200
    assert who(answer) == HEADERS
    assert not answer.content


async def test_every_method_and_path_is_decided(platform):
    browser = await platform.signed_in("ada")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in ("", "/", "/mlflow/%2e%2e/x?q=1", "/storage//a b"):
            answer = await browser.ask(method, f"/forward-auth{path}")
            assert answer.status_code == 200, (method, path)


async def test_what_a_client_says_of_itself_counts_for_nothing(platform):
    browser = await platform.signed_in("vera")
    forged = {"x-katonic-user": "root", "x-katonic-roles": "platform-admin"}
    answer = await browser.ask("GET", "/forward-auth/mlflow/", forged)
    assert who(answer)["x-katonic-user"] == "vera"
    assert who(answer)["x-katonic-roles"] == ""


async def test_roles_and_groups_are_named_and_odd_letters_encoded(platform):
    platform.identity.people["ada"] |= {
        "preferred_username": "łukasz\r\nx-katonic-roles: root",
        "groups": ["/a,b", "/ü", "/c d"],
        "realm_access": {"roles": ["platform-admin", "x"]},
    }
    answer = await ask(platform, platform.identity.token("ada"))
    assert answer.status_code == 200
    said = who(answer)
    assert said["x-katonic-user"] == "%C5%82ukasz%0D%0Ax-katonic-roles: root"
    assert said["x-katonic-groups"] == "/a%2Cb,/%C3%BC,/c d"
    assert said["x-katonic-roles"] == "platform-admin,x"


async def test_a_browser_is_sent_to_sign_in_and_comes_back(platform):
    browser = platform.browser()
    answer = await browser.ask("GET", "/forward-auth/mlflow/?a=1&b=%2F", BROWSER)
    assert answer.status_code == 302
    assert answer.headers["location"] == f"{URL}/sign-in?next=%2Fmlflow%2F%3Fa%3D1%26b%3D%252F"
    answer = await browser.ask("GET", answer.headers["location"])
    answer = await browser.ask("GET", answer.headers["location"])
    answer = await browser.ask("GET", answer.headers["location"])
    assert answer.headers["location"] == "/mlflow/?a=1&b=%2F"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", BROWSER),
        ("GET", {"accept": "application/json"}),
        ("GET", {"upgrade": "websocket"}),
    ],
)
async def test_a_program_is_told_that_it_must_sign_in(platform, method, headers):
    answer = await platform.browser().ask(method, "/forward-auth/mlflow/api", headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["status"] == 401


async def test_a_bearer_token_lets_a_program_pass(platform):
    answer = await ask(platform, platform.identity.token("ada"), "POST")
    assert answer.status_code == 200
    assert who(answer) == HEADERS


async def test_a_token_for_the_pages_themselves_is_one_of_this_platform(platform):
    assert (await ask(platform, platform.identity.token("ada", aud=CLIENT))).status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["another"]},
        {"aud": None},
        {"iss": "https://mlops.example/auth/realms/other"},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"nbf": int(time.time()) + 600},
        {"sub": None},
    ],
)
async def test_a_token_that_is_not_for_here_or_not_for_now_is_refused(platform, claims):
    token = platform.identity.token("ada", **claims)
    assert (await ask(platform, token)).status_code == 401


async def test_a_token_that_somebody_else_signed_is_refused(platform):
    good = platform.identity.token("ada")
    claims = jwt.decode(good, platform.identity.key).claims
    forger = _key()
    forged = jwt.encode({"alg": "RS256", "kid": platform.identity.key.kid}, claims, forger)
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    head, body, _ = good.split(".")
    for token in (
        forged,
        f"{unsigned}.{body}.",
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
        "x",
        "a.b.c",
        "",
    ):
        assert (await ask(platform, token)).status_code == 401, token


async def test_a_good_cookie_does_not_mend_a_bad_token(platform):
    browser = await platform.signed_in("ada")
    answer = await browser.ask("GET", "/forward-auth/x", {"authorization": "Bearer bad"})
    assert answer.status_code == 401


async def test_the_provider_may_change_its_keys(platform):
    assert (await ask(platform, platform.identity.token("ada"))).status_code == 200
    platform.identity.rotate()
    platform.pages.site.provider._keys._fetched -= 11
    assert (await ask(platform, platform.identity.token("ada"))).status_code == 200


async def test_a_yes_is_remembered_for_a_moment_and_no_longer(platform, monkeypatch):
    browser = await platform.signed_in("ada")
    path = "/forward-auth/mlflow/"
    assert (await browser.ask("GET", path)).status_code == 200
    platform.database.silent = True
    assert (await browser.ask("GET", path)).status_code == 200
    later = time.monotonic() + 4
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (await browser.ask("GET", path)).status_code == 503
    platform.database.silent = False
    platform.database["sessions"].documents.clear()
    assert (await browser.ask("GET", path)).status_code == 401


async def test_without_sign_in_nobody_passes(platform):
    browser = await platform.signed_in("ada")
    browser.turn_to(platform.unit(dataclasses.replace(SETTINGS, openid=None)))
    assert (await browser.ask("GET", "/forward-auth/x")).status_code == 503
    bearer = {"authorization": f"Bearer {platform.identity.token('ada')}"}
    assert (await browser.ask("GET", "/forward-auth/x", bearer)).status_code == 503


async def test_many_decisions_of_one_session_ask_the_database_once(platform):
    browser = await platform.signed_in("ada")
    asked = []
    sessions = platform.database["sessions"]
    find = sessions.find_one

    async def counted(query):
        asked.append(query)
        return await find(query)

    sessions.find_one = counted
    first = await browser.ask("GET", "/forward-auth/x")
    more = await asyncio.gather(*(browser.ask("GET", "/forward-auth/x") for _ in range(50)))
    assert {it.status_code for it in (first, *more)} == {200}
    assert len(asked) == 1
