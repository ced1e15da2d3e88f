"""Who gets in, who stays in, and who does not."""

import asyncio
import dataclasses
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import KEYS, SETTINGS, URL, Platform
from cryptography.fernet import Fernet
from identity_provider import ISSUER

pytestmark = pytest.mark.anyio
SESSION = "__Host-session"


def documents(platform: Platform) -> list[dict]:
    return list(platform.database["sessions"].documents.values())


async def test_who_comes_is_sent_to_sign_in_and_gets_where_they_wanted(platform):
    browser = platform.browser()
    page = await browser.get("/projects?q=churn")
    assert page.status_code == 200
    assert str(page.url) == f"{URL}/projects?q=churn"
    assert "Ada Lovelace" in page.text


async def test_the_way_there_has_pkce_state_and_nonce(platform):
    answer = await platform.browser().ask("GET", "/sign-in?next=/account")
    url = urlsplit(answer.headers["location"])
    asked = {key: value for key, (value,) in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{ISSUER}/protocol/openid-connect/auth"
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["scope"] == "openid profile email groups"
    assert asked["redirect_uri"] == f"{URL}/session/callback"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3


async def test_the_cookie_of_a_session_is_for_this_host_and_no_script(platform):
    browser = platform.browser()
    answer = await browser.ask("GET", "/sign-in")
    answer = await browser.ask("GET", answer.headers["location"])
    answer = await browser.ask("GET", answer.headers["location"])
    (said,) = (it for it in answer.headers.get_list("set-cookie") if it.startswith(SESSION))
    words = {it.strip().lower() for it in said.split(";")[1:]}
    assert words == {"path=/", "secure", "httponly", "samesite=lax"}
    assert len(browser.cookies[SESSION]) >= 43  # 256 bits


async def test_the_database_holds_neither_the_cookie_nor_a_token_nor_a_name(platform):
    browser = await platform.signed_in("ada")
    (document,) = documents(platform)
    kept = str(document)
    assert browser.cookies[SESSION] not in kept
    assert "Lovelace" not in kept
    assert "eyJ" not in kept


async def test_a_state_that_this_browser_was_not_sent_with_is_refused(platform):
    victim, thief = platform.browser(), platform.browser()
    answer = await thief.ask("GET", "/sign-in")
    answer = await thief.ask("GET", answer.headers["location"])
    page = await victim.get(answer.headers["location"])
    assert page.status_code == 400
    assert "Sign in again" in page.text
    assert SESSION not in victim.cookies
    assert not documents(platform)


@pytest.mark.parametrize("query", ["", "?code=x", "?state=x&code=x", "?state=%00&error=no"])
async def test_who_comes_back_with_nothing_of_use_is_told_so(platform, query):
    page = await platform.browser().get(f"/session/callback{query}")
    assert page.status_code == 400
    assert "This sign-in is over" in page.text


async def test_a_code_counts_once(platform):
    browser = platform.browser()
    answer = await browser.ask("GET", "/sign-in")
    back = (await browser.ask("GET", answer.headers["location"])).headers["location"]
    cookies = dict(browser.cookies)
    assert (await browser.ask("GET", back)).status_code == 302
    for name, value in cookies.items():
        browser.cookies.set(name, value, domain="mlops.example")
    assert (await browser.ask("GET", back)).status_code == 400


async def test_an_id_token_with_another_nonce_is_refused(platform):
    browser = platform.browser()
    answer = await browser.ask("GET", "/sign-in")
    back = (await browser.ask("GET", answer.headers["location"])).headers["location"]
    for _, asked in platform.identity.codes.values():
        asked["nonce"] = "of-another"
    assert (await browser.get(back)).status_code == 400
    assert not documents(platform)


async def test_who_is_not_let_in_reads_why(platform):
    browser = platform.browser()
    answer = await browser.ask("GET", "/sign-in?next=/account")
    state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
    page = await browser.get(f"/session/callback?state={state}&error=access_denied")
    assert page.status_code == 403
    assert "You have not been let in" in page.text
    assert 'href="/sign-in?next=%2Faccount"' in page.text


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "\\/evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/sign-in?next=/",
        "/%0d%0aLocation:https://evil.example"[:1] + "\r\nx: y",
    ],
)
async def test_a_sign_in_leads_nowhere_else(platform, elsewhere):
    from urllib.parse import quote

    browser = platform.browser()
    page = await browser.get(f"/sign-in?next={quote(elsewhere, safe='')}")
    assert str(page.url) == f"{URL}/"


async def test_two_sign_ins_at_a_time_do_not_disturb_each_other(platform):
    browser = platform.browser()
    ways = [await browser.ask("GET", f"/sign-in?next={it}") for it in ("/account", "/projects")]
    ends = [await browser.get(it.headers["location"]) for it in ways]
    assert [it.url.path for it in ends] == ["/account", "/projects"]


async def test_a_session_holds_on_every_unit(platform):
    browser = await platform.signed_in("ada")
    browser.turn_to(platform.unit())
    assert "Ada Lovelace" in (await browser.get("/")).text
    assert platform.identity.refreshes == 0


async def test_signing_out_ends_the_session_here_and_at_the_provider(platform):
    browser = await platform.signed_in("ada")
    stolen = browser.cookies[SESSION]
    page = await browser.post("/sign-out")
    assert str(page.url).startswith(f"{URL}/signed-out")
    assert not documents(platform)
    assert platform.identity.seen["post_logout_redirect_uri"] == f"{URL}/signed-out"
    assert platform.identity.seen["id_token_hint"].count(".") == 2
    thief = platform.browser()
    thief.cookies.set(SESSION, stolen, domain="mlops.example")
    assert (await thief.ask("GET", "/account")).status_code == 302


async def test_signing_out_everywhere_ends_ones_own_sessions_and_no_others(platform):
    first, second, other = [await platform.signed_in(it) for it in ("ada", "ada", "carl")]
    assert "in 2 browsers" in (await first.get("/account")).text
    page = await first.post("/account/sign-out-everywhere")
    assert page.url.path == "/signed-out"
    assert platform.api.signed_out == ["ada"]
    assert (await second.ask("GET", "/account")).status_code == 302
    assert (await other.ask("GET", "/account")).status_code == 200


async def test_tokens_are_refreshed_ahead_of_their_end(platform):
    platform.identity.lifetime = 20
    browser = await platform.signed_in("ada")
    before = platform.identity.refreshes
    platform.identity.lifetime = 300
    assert (await browser.get("/")).status_code == 200
    assert platform.identity.refreshes == before + 1
    assert (await browser.get("/")).status_code == 200
    assert platform.identity.refreshes == before + 1


async def test_many_requests_at_a_time_on_two_units_refresh_once(platform):
    platform.identity.lifetime = -10
    browser = platform.browser()
    await browser.get("/sign-in?next=/signed-out")
    platform.identity.lifetime = 300
    other = platform.browser(platform.unit())
    other.cookies = browser.cookies
    asked = [it.ask("GET", "/account") for it in (browser, other) for _ in range(8)]
    assert {it.status_code for it in await asyncio.gather(*asked)} == {200}
    assert platform.identity.refreshes == 1


async def test_a_lease_of_a_unit_that_is_no_more_is_taken_over(platform):
    platform.identity.lifetime = -10
    browser = platform.browser()
    await browser.get("/sign-in?next=/signed-out")
    platform.identity.lifetime = 300
    (document,) = documents(platform)
    stale = {"_id": document["_id"], "until": time.time() - 1}
    await platform.database["leases"].insert_one(stale)
    assert (await browser.get("/account")).status_code == 200


async def test_who_is_locked_out_is_out_with_their_next_refresh(platform):
    platform.identity.lifetime = 20
    browser = await platform.signed_in("ada")
    platform.identity.locked.add("ada")
    answer = await browser.ask("GET", "/account")
    assert answer.headers["location"] == "/sign-in?next=%2Faccount"
    assert not documents(platform)


async def test_a_token_that_the_api_refuses_is_replaced_by_a_fresh_one(platform):
    browser = await platform.signed_in("ada")
    bearer = platform.api.asked[-1][2]["authorization"].removeprefix("Bearer ")
    platform.api.refused.add(bearer)
    assert (await browser.get("/account")).status_code == 200
    assert platform.identity.refreshes == 1


async def test_while_the_provider_is_silent_those_whose_tokens_hold_go_on(platform):
    platform.identity.lifetime = 25
    browser = await platform.signed_in("ada")
    platform.identity.silent = True
    assert (await browser.get("/account")).status_code == 200
    assert documents(platform)


async def test_while_the_provider_is_silent_stale_tokens_end_no_session(platform):
    platform.identity.lifetime = -10
    browser = platform.browser()
    await browser.get("/sign-in?next=/signed-out")
    platform.identity.silent = True
    page = await browser.get("/account")
    assert page.status_code == 503
    assert "Sign-in does not answer" in page.text
    platform.identity.silent, platform.identity.lifetime = False, 300
    assert (await browser.get("/account")).status_code == 200


async def test_a_session_that_nobody_uses_ends(platform):
    browser = await platform.signed_in("ada")
    (document,) = platform.database["sessions"].documents.values()
    assert 1790 < document["expires"] - time.time() <= 1800
    document["expires"] = time.time() - 1
    assert (await browser.ask("GET", "/account")).status_code == 302


async def test_a_page_that_asks_by_itself_keeps_no_session_alive(platform):
    browser = await platform.signed_in("ada")
    (document,) = platform.database["sessions"].documents.values()
    document["seen"] -= 600
    document["expires"] -= 600
    before = document["expires"]
    await browser.get("/parts/services", HX_Request="true")
    assert document["expires"] == before
    await browser.get("/account")
    assert document["expires"] > before + 500


async def test_no_use_makes_a_session_longer_than_its_longest(platform):
    browser = await platform.signed_in("ada")
    (document,) = platform.database["sessions"].documents.values()
    document["created"] -= SETTINGS.session_max - 60
    document["seen"] -= 600
    await browser.get("/account")
    assert document["expires"] - time.time() < 61


async def test_what_is_over_is_swept_away(platform):
    await platform.signed_in("ada")
    await platform.signed_in("carl")
    first, _ = platform.database["sessions"].documents.values()
    first["expires"] = 0
    assert await platform.pages.site.sessions.sweep() == 1
    assert len(documents(platform)) == 1


async def test_a_new_key_signs_nobody_out_and_a_forgotten_one_does(platform):
    browser = await platform.signed_in("ada")
    newer = Fernet.generate_key().decode()
    rotated = dataclasses.replace(SETTINGS, session_keys=(newer, *KEYS))
    browser.turn_to(platform.unit(rotated))
    assert (await browser.get("/account")).status_code == 200
    browser.turn_to(platform.unit(dataclasses.replace(SETTINGS, session_keys=(newer,))))
    assert (await browser.ask("GET", "/account")).status_code == 302


async def test_a_form_of_another_site_does_nothing(platform):
    browser = await platform.signed_in("ada")
    token = await browser.token()
    projects = len(platform.api.projects)
    form = {"name": "stolen", "organization": "default", "csrf": token}
    for headers, sent in (
        ({"origin": "https://evil.example"}, form),
        ({"origin": "null"}, form),
        ({"sec-fetch-site": "cross-site"}, form),
        ({}, {**form, "csrf": "guessed"}),
        ({}, {"name": "stolen", "organization": "default"}),
    ):
        answer = await browser.ask("POST", "/projects", headers, sent)
        assert answer.status_code == 403
    assert len(platform.api.projects) == projects


async def test_a_token_of_another_session_is_not_good_for_this_one(platform):
    ada, carl = await platform.signed_in("ada"), await platform.signed_in("carl")
    assert await ada.token() != await carl.token()
    form = {"csrf": await carl.token()}
    assert (await ada.ask("POST", "/sign-out", form=form)).status_code == 403


async def test_without_sign_in_a_person_reads_so_and_with_it_again_all_is_well(platform):
    browser = await platform.signed_in("ada")
    browser.turn_to(platform.unit(dataclasses.replace(SETTINGS, openid=None)))
    for path in ("/", "/sign-in", "/account", "/session/callback?code=x&state=y"):
        page = await browser.get(path)
        assert page.status_code == 503
        assert "Sign-in is not available" in page.text
        assert "Traceback" not in page.text
    browser.turn_to(platform.unit())
    assert (await browser.get("/")).status_code == 200


async def test_without_sessions_a_person_reads_so(platform):
    browser = await platform.signed_in("ada")
    platform.database.silent = True
    page = await browser.get("/")
    assert page.status_code == 503
    assert "Sessions are not available" in page.text
    assert "retry-after" in page.headers


async def test_a_unit_that_is_about_to_stop_says_so_and_still_answers(platform):
    browser = await platform.signed_in("ada")
    assert (await browser.get("/ready")).status_code == 200
    platform.pages.site.draining = True
    assert (await browser.get("/ready")).status_code == 503
    assert (await browser.get("/")).status_code == 200


async def test_a_choice_of_light_or_dark_stays_and_leads_back(platform):
    browser = await platform.signed_in("ada")
    headers = {"referer": f"{URL}/account"}
    answer = await browser.ask("POST", "/theme", headers, {"theme": "dark"})
    assert answer.headers["location"] == "/account"
    assert 'data-theme="dark"' in (await browser.get("/")).text
    await browser.ask("POST", "/theme", headers, {"theme": '"><b>'})
    assert 'data-theme="auto"' in (await browser.get("/")).text
