"""People who sit at a browser, and what they do there."""

import time
from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, Page, expect
from pyotp.totp import TOTP

SLOWEST = 30_000
"""Milliseconds that a page may take where everything runs on two cores."""


def choice(username: str) -> str:
    """Return the password that somebody chooses."""
    return f"a-longer-word-of-{username[::-1]}"


@dataclass
class Person:
    """Somebody at a browser of their own.

    Attributes:
        password: Theirs, once they have chosen one.
        secret: What their one-time passwords are made from, once they have set that up.
        complaints: What the browser has said in its console: a page that breaks its own policy,
            a script that fails.
    """

    username: str
    password: str
    url: str
    context: BrowserContext
    page: Page
    chosen: str = ""
    secret: str = ""
    complaints: list[str] = field(default_factory=list)

    def visit(self, path: str) -> Page:
        """Go to a page."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def enter(self, password: str = "") -> None:
        """Say who one is, at the page that asks for it."""
        self.page.get_by_label("Username").fill(self.username)
        self.page.locator("#password").fill(password or self.chosen or self.password)
        self.page.get_by_role("button", name="Sign In").click()

    def choose_password(self) -> None:
        """Choose a password of one's own, at the page that asks for it."""
        chosen = choice(self.username)
        self.page.locator("#password-new").fill(chosen)
        self.page.locator("#password-confirm").fill(chosen)
        self.page.get_by_role("button", name="Submit").click()
        self.chosen = chosen

    def set_up_one_time_password(self) -> None:
        """Do what the page says that asks for it, as a telephone would."""
        self.page.get_by_role("link", name="Unable to scan?").click()
        shown = self.page.locator("#kc-totp-secret-key").inner_text()
        self.secret = shown.replace(" ", "")
        self.page.locator("#totp").fill(TOTP(self.secret).now())
        self.page.get_by_role("button", name="Submit").click()

    def enter_one_time_password(self) -> None:
        """Say what the telephone shows next: what it shows now may have been used already."""
        self.page.locator("#otp").fill(TOTP(self.secret).at(time.time() + 30))
        self.page.get_by_role("button", name="Sign In").click()

    def sign_in(self, path: str = "/") -> Page:
        """Sign in, the first time or again, and go to a page."""
        self.visit(path)
        self.enter()
        if not self.chosen:
            self.choose_password()
        self.page.wait_for_url(f"{self.url}{path}")
        return self.page

    def create_project(self, name: str) -> str:
        """Create a project, and return its path."""
        page = self.visit("/projects/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Description").fill("What the tests have made.")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        return page.url.removeprefix(self.url)

    def listen(self) -> None:
        """Write down what the browser complains of on the platform's own pages."""
        self.page.on("console", lambda it: self._note(it.type, it.text))
        self.page.on("pageerror", lambda it: self._note("error", str(it)))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "/auth/" not in self.page.url:
            self.complaints.append(f"{self.page.url}: {text}")
