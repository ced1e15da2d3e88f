"""A browser in front of the deployed platform, and people who sit at it."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jubilant
import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
sys.path.insert(0, str(Path(__file__).parent))
from deployed import (
    BINARY,
    MODEL,
    ON_SANDBOX,
    Platform,
    deploy_on_juju,
    deploy_on_sandbox,
)
from visitors import SLOWEST, Person, choice

CHROMIUM = "/usr/bin/chromium"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="a folder that gets a picture of every page")


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Yield the deployed platform, every application active."""
    juju = jubilant.Juju(model=MODEL, cli_binary=BINARY, wait_timeout=300)
    if ON_SANDBOX:
        deploy_on_sandbox()
    else:
        jubilant.Juju(cli_binary=BINARY).add_model(MODEL)
        deploy_on_juju(juju)
    deployed = Platform(juju)
    deployed.settle(timeout=1200)
    yield deployed
    if not os.environ.get("KEEP_MODEL"):
        juju.destroy_model(MODEL, destroy_storage=True, force=True)


@pytest.fixture(scope="session")
def url(platform: Platform) -> str:
    """Return the platform's one address."""
    return f"https://{platform.juju.config('istio-ingress')['external-hostname']}"


@pytest.fixture(scope="session")
def chromium(platform: Platform, url: str) -> Iterator[Browser]:
    """Yield a browser that finds the platform's name at its gateway."""
    service = platform.kubectl("get", "service", "istio-ingress-gateway", "-o", "json")
    gateway = json.loads(service)["spec"]["clusterIP"]
    rules = f"MAP {url.removeprefix('https://')} {gateway}"
    expect.set_options(timeout=SLOWEST)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[f"--host-resolver-rules={rules}", "--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def arrive(platform: Platform, chromium: Browser, url: str) -> Iterator[Callable[..., Person]]:
    """Return a function that gives somebody an account, and sets them at a browser."""
    contexts: list[BrowserContext] = []

    def arrive(username: str, admin: bool = False, **options: object) -> Person:
        account = platform.juju.run(
            "keycloak/leader",
            "add-user",
            {
                "username": username,
                "email": f"{username}@katonic.example",
                "first-name": username.title(),
                "last-name": "Tester",
                "admin": admin,
            },
        ).results
        context = chromium.new_context(ignore_https_errors=True, **options)  # pyright: ignore
        context.set_default_timeout(SLOWEST)
        contexts.append(context)
        page, password = context.new_page(), account.get("password", "")
        chosen = "" if password else choice(username)
        person = Person(username, password, url, context, page, chosen)
        person.listen()
        return person

    yield arrive
    for it in contexts:
        it.close()
