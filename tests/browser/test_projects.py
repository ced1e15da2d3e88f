"""What people do with a project, and who sees it."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from deployed import Platform
from playwright.sync_api import expect
from visitors import Person


@pytest.fixture(scope="module")
def owner(arrive: Callable[..., Person]) -> Person:
    """Return somebody who is signed in, and owns what they make."""
    person = arrive("olive")
    person.sign_in()
    return person


@pytest.fixture(scope="module")
def project(owner: Person) -> str:
    """Return the path of a project."""
    return owner.create_project("harvest")


def test_who_is_invited_sees_the_project_and_others_do_not(
    arrive: Callable[..., Person], owner: Person, project: str
):
    friend, stranger = arrive("frieda"), arrive("stan")
    friend.sign_in()
    page = owner.visit(f"{project}/members")
    page.get_by_label("Invite").fill("frieda")
    page.get_by_label("As", exact=True).select_option("viewer")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text("frieda is a member now, as viewer.")).to_be_visible()

    page = friend.visit("/")
    page.get_by_role("link", name="harvest").first.click()
    expect(page.get_by_role("heading", name="harvest")).to_be_visible()
    expect(page.get_by_role("link", name="Settings")).to_have_count(0)

    page = stranger.sign_in()
    expect(page.get_by_text("No projects yet")).to_be_visible()
    answer = stranger.page.goto(f"{stranger.url}{project}")
    assert answer
    assert answer.status == 404
    expect(page.get_by_text("harvest")).to_have_count(0)


def test_who_has_not_signed_in_yet_can_be_invited(
    arrive: Callable[..., Person], owner: Person, project: str
):
    late = arrive("lena")
    page = owner.visit(f"{project}/members")
    page.get_by_label("Invite").fill("lena@katonic.example")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text("lena@katonic.example is a member now")).to_be_visible()
    late.sign_in()
    expect(late.page.get_by_role("link", name="harvest").first).to_be_visible()


def test_a_file_is_uploaded_downloaded_and_deleted(owner: Person, project: str, tmp_path: Path):
    content = bytes(range(256)) * 4096 * 20
    file = tmp_path / "a day's yield.bin"
    file.write_bytes(content)
    page = owner.visit(f"{project}/files")
    page.get_by_label("Upload files to /").set_input_files(file)
    page.get_by_label("Into folder").fill("2026/fall")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("a day's yield.bin: uploaded")).to_be_visible()
    page.get_by_role("link", name="2026", exact=True).click()
    page.get_by_role("link", name="fall", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="a day's yield.bin", exact=True).click()
    assert download.value.suggested_filename == file.name
    assert Path(download.value.path()).read_bytes() == content
    page.get_by_role("link", name="Delete a day's yield.bin").click()
    page.get_by_role("button", name="Delete the file").click()
    expect(page.get_by_text("/2026/fall/a day's yield.bin is deleted.")).to_be_visible()


def test_a_run_that_mlflows_client_logs_is_drawn(
    platform: Platform, owner: Person, project: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", platform.url("mlflow", 5000))
    mlflow.set_experiment("default/harvest/weather")
    for name, rate in (("slow", 0.05), ("fast", 0.2)):
        with mlflow.start_run(run_name=name):
            mlflow.log_param("rate", rate)
            for step in range(60):
                mlflow.log_metric("loss", 1 / (1 + rate * step), step=step)
    page = owner.visit(f"{project}/experiments")
    expect(page.get_by_role("heading", name="loss")).to_be_visible()
    drawing = page.get_by_role("img", name="loss over steps")
    expect(drawing).to_be_visible()
    assert drawing.locator("path.series").count() == 2
    page.get_by_text("The same as a table").click()
    table = page.get_by_role("table", name="loss over steps")
    expect(table.get_by_role("columnheader", name="slow")).to_be_visible()
    runs = page.get_by_role("region", name="Runs").first
    expect(runs.get_by_role("row", name="fast")).to_contain_text("finished")


def test_who_saves_second_is_told_what_the_first_one_saved(
    arrive: Callable[..., Person], owner: Person, project: str
):
    other = arrive("oskar", admin=True)
    page = other.sign_in(f"{project}/settings")
    mine = owner.visit(f"{project}/settings")
    mine.get_by_label("Description").fill("First.")
    mine.get_by_role("button", name="Save").click()
    expect(mine.get_by_text("The settings are saved.")).to_be_visible()
    page.get_by_label("Description").fill("Second.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Somebody changed it meanwhile")).to_be_visible()
    expect(page.get_by_text("First.", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The settings are saved.")).to_be_visible()


def test_a_project_goes_when_its_name_is_typed(owner: Person):
    path = owner.create_project("short-lived")
    page = owner.visit(f"{path}/settings")
    page.get_by_role("link", name="Delete short-lived").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type short-lived to confirm").fill("short-lived")
    dialog.get_by_role("button", name="Delete the project").click()
    expect(page.get_by_text("The project short-lived is deleted.")).to_be_visible()


def test_no_page_has_broken_its_own_policy(owner: Person):
    # The browser tells every answer above 399 as an error, and a stranger's 404 is none.
    assert not [it for it in owner.complaints if "Failed to load resource" not in it]
