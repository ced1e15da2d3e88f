"""Who gets in at the platform's one address, and who does not."""

from collections.abc import Callable

import pytest
from deployed import Platform, eventually
from playwright.sync_api import expect
from visitors import Person


@pytest.fixture
def one_time_passwords(platform: Platform):
    """Have everybody set up one-time passwords, for as long as the test lasts."""
    platform.juju.config("keycloak", {"mfa": "required"})
    platform.settle("keycloak")
    yield
    platform.juju.config("keycloak", reset="mfa")
    platform.settle("keycloak")


def test_a_new_person_signs_in_chooses_a_password_and_finds_the_platform(
    arrive: Callable[..., Person], url: str
):
    ada = arrive("ada-new")
    page = ada.sign_in()
    expect(page.get_by_role("heading", name="Welcome, Ada-New Tester")).to_be_visible()
    expect(page.get_by_text("No projects yet")).to_be_visible()
    expect(page.get_by_role("link", name="Administration")).to_have_count(0)
    (session,) = (it for it in ada.context.cookies() if it.get("name") == "__Host-session")
    kept = (session.get("secure"), session.get("httpOnly"), session.get("sameSite"))
    assert kept == (True, True, "Lax")
    assert not ada.complaints


def test_where_one_wanted_to_go_is_where_one_arrives(arrive: Callable[..., Person]):
    page = arrive("nele").sign_in("/projects?q=nothing")
    expect(page.get_by_text("No project fits")).to_be_visible()


def test_a_wrong_password_lets_nobody_in(arrive: Callable[..., Person]):
    eve = arrive("eve")
    eve.visit("/")
    eve.enter("not-the-password-of-eve")
    expect(eve.page.get_by_text("Invalid username or password.")).to_be_visible()
    eve.visit("/account")
    assert "/auth/" in eve.page.url


def test_who_must_have_a_one_time_password_sets_it_up_and_is_asked_for_it(
    arrive: Callable[..., Person], url: str, one_time_passwords: None
):
    otto = arrive("otto")
    page = otto.visit("/")
    otto.enter()
    # The order of Keycloak's required actions is the realm's.
    for _ in range(2):
        if page.locator("#password-new").count():
            otto.choose_password()
        else:
            otto.set_up_one_time_password()
    page.wait_for_url(f"{url}/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    otto.enter()
    otto.enter_one_time_password()
    page.wait_for_url(f"{url}/")


def test_who_signs_out_is_out_here_and_at_keycloak(arrive: Callable[..., Person], url: str):
    bert = arrive("bert")
    page = bert.sign_in()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    bert.visit("/account")
    assert "/auth/" in page.url
    expect(page.get_by_label("Username")).to_be_visible()


def test_signing_out_everywhere_reaches_the_other_browser(arrive: Callable[..., Person]):
    one = arrive("dora")
    one.sign_in()
    other = arrive("dora")
    other.password, other.chosen = one.password, one.chosen
    other.sign_in()
    page = one.visit("/account")
    expect(page.get_by_text("You are signed in in 2 browsers.")).to_be_visible()
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    other.visit("/account")
    expect(other.page.get_by_label("Username")).to_be_visible()


def test_a_deactivated_person_is_out_and_is_refused_until_reactivated(
    arrive: Callable[..., Person], url: str
):
    paul, chief = arrive("paul"), arrive("chief", admin=True)
    paul.sign_in()
    page = chief.sign_in("/administration/users?q=paul")
    page.get_by_role("link", name="Deactivate paul").click()
    page.get_by_role("dialog").get_by_role("button", name="Deactivate").click()
    expect(page.get_by_text("paul is deactivated.")).to_be_visible()
    paul.visit("/")
    paul.enter()
    expect(paul.page.get_by_text("Account is disabled")).to_be_visible()
    chief.visit("/administration/users?q=paul")
    page.get_by_role("button", name="Reactivate paul").click()
    expect(page.get_by_text("paul is reactivated.")).to_be_visible()
    paul.sign_in()


def test_a_service_without_a_sign_in_of_its_own_has_the_platforms(
    arrive: Callable[..., Person], url: str
):
    mia = arrive("mia")
    page = mia.visit("/mlflow/")
    assert "/auth/" in page.url
    mia.enter()
    mia.choose_password()
    page.wait_for_url(f"{url}/mlflow/**")
    expect(page.get_by_text("Experiments").first).to_be_visible()


def test_without_keycloak_a_person_reads_so_and_with_it_again_signs_in(
    arrive: Callable[..., Person], platform: Platform
):
    lou = arrive("lou")
    lou.sign_in()
    ends = ("katonic-ui:oauth", "keycloak:oauth")
    platform.juju.remove_relation(*ends)
    told = "integrate oauth"
    eventually(lambda: platform.juju.status().apps["katonic-ui"].app_status.message == told)
    page = lou.visit("/")
    expect(page.get_by_role("heading", name="Sign-in is not available")).to_be_visible()
    platform.juju.integrate(*ends)
    platform.settle("katonic-ui", "keycloak")
    page = lou.visit("/account")
    expect(page.get_by_role("heading", name="Account")).to_be_visible()
