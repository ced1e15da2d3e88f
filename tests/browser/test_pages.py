"""Every page as one sees it: light and dark, at a desk and on a telephone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import mlflow
import pytest
from deployed import Platform
from playwright.sync_api import Page, expect
from visitors import Person

SIZES: dict[str, Any] = {
    "desktop": {"width": 1440, "height": 900},
    "phone": {"width": 390, "height": 844},
}
PAGES = {
    "home": "/",
    "projects": "/projects",
    "project-new": "/projects/new",
    "project": "{project}",
    "experiments": "{project}/experiments",
    "files": "{project}/files",
    "members": "{project}/members",
    "settings": "{project}/settings",
    "delete": "{project}/delete",
    "users": "/administration/users",
    "organizations": "/administration/organizations",
    "organization": "/administration/organizations/default",
    "services": "/administration/services",
    "audit": "/administration/audit",
    "account": "/account",
    "missing": "/no-such-page",
}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def chief(arrive: Callable[..., Person], platform: Platform) -> Person:
    """Return a platform admin with a project in which something has happened."""
    person = arrive("grace", admin=True)
    person.sign_in()
    person.create_project("demand-forecast")
    person.create_project("churn")
    mlflow.set_tracking_uri(platform.url("mlflow", 5000))
    mlflow.set_experiment("default/demand-forecast/gradient-boosting")
    for name, rate in (("calm-otter", 0.05), ("bold-crane", 0.2), ("kind-ibis", 0.4)):
        with mlflow.start_run(run_name=name):
            mlflow.log_params({"rate": rate, "depth": 6})
            for step in range(100):
                mlflow.log_metric("loss", 1 / (1 + rate * step) + step % 7 / 90, step=step)
    return person


@pytest.fixture(scope="module")
def paths(chief: Person) -> dict[str, str]:
    """Return the path of every page, by the name of its picture."""
    page = chief.visit("/projects?q=demand-forecast")
    project = page.get_by_role("link", name="demand-forecast").get_attribute("href") or ""
    for name in ("shops.csv", "readme.md"):
        page = chief.visit(f"{project}/files")
        content = {"name": name, "mimeType": "text/plain", "buffer": b"x" * 20_000}
        page.get_by_label("Upload files to /").set_input_files([content])  # pyright: ignore
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.get_by_text(f"{name}: uploaded")).to_be_visible()
    return {name: path.format(project=project) for name, path in PAGES.items()}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_its_screen(
    chief: Person,
    paths: dict[str, str],
    size: str,
    theme: Literal["light", "dark"],
    pytestconfig: pytest.Config,
):
    page, pictures = chief.page, pytestconfig.getoption("pictures")
    page.set_viewport_size(SIZES[size])
    page.emulate_media(color_scheme=theme)
    for name, path in paths.items():
        chief.visit(path)
        assert overflow(page) == 0, name
        if pictures:
            _picture(page, pictures, f"{name}-{theme}-{size}")
    page.set_viewport_size(SIZES["desktop"])
    page.emulate_media(color_scheme="light")


def overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its screen."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def _picture(page: Page, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", animations="disabled")


def test_the_choice_of_dark_stays(chief: Person):
    page = chief.visit("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_role("button", name="Dark").click()
    page.wait_for_load_state()
    assert page.evaluate(ground) != before
    chief.visit("/projects")
    assert page.evaluate(ground) != before
    page.get_by_role("button", name="Like the device").click()
    page.wait_for_load_state()
    assert page.evaluate(ground) == before


def test_a_page_is_used_by_the_keyboard_alone(chief: Person, paths: dict[str, str]):
    page = chief.visit(paths["files"])
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Delete readme.md").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Delete readme.md?")).to_be_visible()
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("link", name="Delete readme.md")).to_be_focused()


def test_the_services_are_there_and_well(chief: Person, platform: Platform):
    page = chief.visit("/administration/services")
    for title in ("Experiments", "Files"):
        tile = page.get_by_role("listitem").filter(has_text=title)
        expect(tile.first).to_contain_text("Up")


def test_what_one_types_is_searched_for(chief: Person):
    page = chief.visit("/projects")
    page.get_by_label("Search").press_sequentially("chur")
    expect(page.get_by_role("link", name="demand-forecast")).to_have_count(0)
    expect(page.get_by_role("link", name="churn")).to_be_visible()
    assert "q=chur" in page.url


def test_no_page_has_broken_its_own_policy(chief: Person):
    assert not [it for it in chief.complaints if "Failed to load resource" not in it]
