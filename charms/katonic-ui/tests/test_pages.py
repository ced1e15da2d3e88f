"""Every page for every role: what it shows, what it does not, and that everyone can use it."""

import dataclasses
import itertools
import re

import html5lib
import lxml.html
import pytest
from browser import NAMES, SETTINGS, URL

pytestmark = pytest.mark.anyio
DEMO = "/projects/p-demand-forecast"
ORGANIZATION = "/administration/organizations/default"
PAGES = [
    "/",
    "/projects",
    "/projects?q=nothing-like-it",
    "/projects/new",
    DEMO,
    f"{DEMO}/experiments",
    f"{DEMO}/experiments?experiment=e2",
    f"{DEMO}/experiments?experiment=e0&key=accuracy",
    f"{DEMO}/files",
    f"{DEMO}/files?prefix=data/",
    f"{DEMO}/files?prefix=empty/",
    f"{DEMO}/files/delete?path=README.md",
    f"{DEMO}/members",
    f"{DEMO}/members/id-of-vera/remove",
    f"{DEMO}/settings",
    f"{DEMO}/delete",
    "/administration/users",
    "/administration/users?q=nobody-like-that",
    "/administration/users/id-of-ada/deactivate",
    "/administration/organizations",
    ORGANIZATION,
    f"{ORGANIZATION}/delete",
    f"{ORGANIZATION}/members/id-of-vera/remove",
    "/administration/services",
    "/administration/audit",
    "/administration/audit?actor=nobody",
    "/account",
    "/signed-out",
    "/no-such-page",
    "/session/callback",
]
HTMX = {"hx-request": "true"}


def parsed(page) -> lxml.html.HtmlElement:
    return lxml.html.fromstring(page.text)


def links(page) -> set[str]:
    return set(parsed(page).xpath("//a/@href"))


def forms(page) -> set[str]:
    return set(parsed(page).xpath("//form[@method='post']/@action"))


@pytest.fixture(params=NAMES)
async def everyone(request, platform):
    return await platform.signed_in(request.param)


async def test_every_page_is_html_that_everyone_can_use(everyone):
    for path in PAGES:
        page = await everyone.get(path)
        assert page.status_code < 500, (path, page.text)
        html5lib.HTMLParser(strict=True).parse(page.text)
        assert faults(parsed(page)) == [], path


def faults(page: lxml.html.HtmlElement) -> list[str]:
    """Return what keeps somebody from using a page, or breaks its policy."""
    found = []
    ids = page.xpath("//@id")
    found += [f"id {it} is there twice" for it in set(ids) if ids.count(it) > 1]
    labelled = set(page.xpath("//label/@for"))
    for it in page.xpath("//input[not(@type='hidden')] | //select | //textarea"):
        if it.get("id") not in labelled and not it.get("aria-label"):
            found.append(f"{it.get('name')} has no label")
    for it in page.xpath("//*[@aria-describedby or @aria-labelledby]"):
        named = f"{it.get('aria-describedby', '')} {it.get('aria-labelledby', '')}".split()
        found += [f"nothing has the id {name}" for name in named if name not in ids]
    for it in page.xpath("//a | //button"):
        if not (it.text_content().strip() or it.get("aria-label")):
            found.append(f"{it.tag} {it.get('href')} says nothing")
    for it in page.xpath("//*"):
        found += [
            f"{it.tag} has {key}" for key in it.attrib if key in ("style",) or key[:2] == "on"
        ]
    found += [
        "something of Python's" for it in ("<Macro", "None", "&lt;") if it in page.text_content()
    ]
    found += ["a script in the page" for it in page.xpath("//script[not(@src)] | //style")]
    found += ["a link that is a script" for it in page.xpath("//@href") if it.startswith("java")]
    levels = [int(it.tag[1]) for it in page.xpath("//h1 | //h2 | //h3 | //h4")]
    if levels.count(1) != 1 or levels[0] != 1:
        found.append("not one heading of the first level, and first")
    found += [f"h{b} after h{a}" for a, b in itertools.pairwise(levels) if b > a + 1]
    for it in page.xpath("//svg"):
        if it.get("aria-hidden") != "true" and it.get("role") != "img":
            found.append("a picture without words")
    for it in page.xpath("//table"):
        if not it.xpath("./caption") and not it.xpath("ancestor::*[@aria-labelledby]"):
            found.append("a table without a name")
        found += ["a heading of no column or row" for th in it.xpath(".//th[not(@scope)]")]
    if not page.xpath("/html/@lang") or not page.xpath("//title/text()"):
        found.append("no language, or no title")
    if len(page.xpath("//main[@id='main']")) != 1 or "#main" not in page.xpath("//a/@href"):
        found.append("no way to the content")
    for it in page.xpath("//form[@method='post']"):
        if it.get("action") != "/theme" and not it.xpath(".//input[@name='csrf']/@value"):
            found.append(f"{it.get('action')} brings no token")
    return found


async def test_every_answer_has_a_policy_that_lets_nothing_foreign_in(platform):
    browser = await platform.signed_in("ada")
    for path in ("/", "/no-such-page", "/signed-out", f"{DEMO}/content/README.md", "/ready"):
        answer = await browser.ask("GET", path)
        policy = dict(
            it.strip().partition(" ")[::2]
            for it in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert "unsafe" not in str(policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
    answer = await browser.ask("GET", "/")
    policy = answer.headers["content-security-policy"]
    assert "form-action 'self' https://mlops.example" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"


async def test_what_a_page_brings_along_may_be_kept_for_ever(platform):
    browser = await platform.signed_in("ada")
    page = parsed(await browser.get("/"))
    found = page.xpath("//link/@href | //script/@src")
    assert len(found) == 4
    for path in found:
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", path)
        answer = await browser.ask("GET", path, {"accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert (await browser.ask("GET", "/static/style.css")).status_code == 404


# --- who sees what


@pytest.mark.parametrize(
    ("username", "ends"),
    [
        ("root", {"", "/experiments", "/files", "/members", "/settings"}),
        ("olga", {"", "/experiments", "/files", "/members", "/settings"}),
        ("ada", {"", "/experiments", "/files", "/members", "/settings"}),
        ("carl", {"", "/experiments", "/files", "/members"}),
        ("vera", {"", "/experiments", "/files", "/members"}),
    ],
)
async def test_a_role_sees_the_parts_of_a_project_that_it_may(platform, username, ends):
    page = await (await platform.signed_in(username)).get(DEMO)
    tabs = set(parsed(page).xpath("//nav[@aria-label='Project']//a/@href"))
    assert tabs == {f"{DEMO}{it}" for it in ends}


async def test_a_viewer_sees_no_form_that_changes_the_project(platform):
    browser = await platform.signed_in("vera")
    own = {"/theme", "/sign-out"}
    for end in ("", "/experiments", "/files", "/members"):
        page = await browser.get(f"{DEMO}{end}")
        assert forms(page) == own, end
        assert not parsed(page).xpath("//form[@data-upload]")
        assert not [it for it in links(page) if it.endswith("/remove") or "/delete" in it]


async def test_a_contributor_works_and_decides_nothing(platform):
    browser = await platform.signed_in("carl")
    assert parsed(await browser.get(f"{DEMO}/files")).xpath("//form[@data-upload]")
    assert f"{DEMO}/experiments" in forms(await browser.get(f"{DEMO}/experiments"))
    assert forms(await browser.get(f"{DEMO}/members")) == {"/theme", "/sign-out"}


@pytest.mark.parametrize(("username", "may"), [("ada", False), ("olga", True), ("root", True)])
async def test_only_who_may_set_a_quota_is_asked_for_one(platform, username, may):
    browser = await platform.signed_in(username)
    for path in (f"{DEMO}/settings", "/projects/new"):
        page = parsed(await browser.get(path))
        assert bool(page.xpath("//input[@name='memory']")) is may


@pytest.mark.parametrize(("username", "sees"), [("ada", False), ("olga", True), ("root", True)])
async def test_only_administrators_see_the_administration(platform, username, sees):
    browser = await platform.signed_in(username)
    assert ("/administration" in links(await browser.get("/"))) is sees
    assert (await browser.get("/administration")).status_code == (200 if sees else 403)


async def test_who_is_no_member_does_not_learn_that_a_project_is_there(platform):
    browser = await platform.signed_in("nina")
    page = await browser.get(DEMO)
    assert page.status_code == 404
    assert "demand-forecast" not in page.text
    assert "No projects yet" in (await browser.get("/")).text
    assert "Create your first project" in (await browser.get("/projects")).text


# --- home and projects


async def test_home_shows_ones_projects_services_and_what_happened(platform):
    page = await (await platform.signed_in("ada")).get("/")
    assert f"{DEMO}" in links(page)
    assert "https://mlops.example/mlflow" in links(page)
    text = parsed(page).text_content()
    assert "carl wrote file" in " ".join(text.split()) or "Recent activity" in text
    health = parsed(page).xpath("//p[contains(@class, 'health')]")
    assert [" ".join(it.text_content().split()) for it in health] == [
        "Up",
        "Up",
        "Down: connection refused",
        "Unknown",
    ]


async def test_services_that_cannot_be_had_leave_the_rest_of_the_page(platform):
    browser = await platform.signed_in("ada")
    platform.api.services = []
    for path in ("/", "/administration/services"):
        assert "No service has introduced itself" in (await browser.get(path)).text


async def test_projects_are_searched_sorted_and_paged(platform):
    for number in range(60):
        platform.api.project(f"many-{number:02}", {"ada": "owner"})
    browser = await platform.signed_in("ada")
    page = await browser.get("/projects?sort=name")
    assert "25 of 64" in page.text
    (more,) = parsed(page).xpath("//a[@rel='next']/@href")
    assert "many-30" in (await browser.get(f"/projects{more}")).text
    page = await browser.get("/projects?q=churn", **HTMX, hx_target="list")
    assert page.text.count("/projects/p-") == 1
    assert "<html" not in page.text
    assert "research" in (await browser.get("/projects?organization=research")).text


async def test_a_project_is_created_and_its_owner_arrives_there(platform):
    browser = await platform.signed_in("ada")
    page = await browser.post("/projects", {"name": "new-one", "organization": "default"})
    assert page.url.path == "/projects/p-new-one"
    assert "The project new-one is there." in page.text
    assert "The project new-one is there." not in (await browser.get(str(page.url))).text


async def test_a_project_sent_twice_is_one(platform):
    browser = await platform.signed_in("ada")
    once = parsed(await browser.get("/projects/new")).xpath("string(//input[@name='once']/@value)")
    form = {"name": "new-one", "organization": "default", "once": once}
    await browser.post("/projects", form)
    (headers,) = (it[2] for it in platform.api.asked if it[:2] == ("POST", "/v1/projects"))
    assert headers["idempotency-key"] == once


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"name": "No!", "organization": "default"}, 422, "String should match the pattern"),
        ({"name": "churn", "organization": "default"}, 409, "There is a project churn"),
        ({"name": "good", "organization": "default", "cpu": "many"}, 422, "A number is expected"),
    ],
)
async def test_what_is_wrong_with_a_new_project_is_said_where_it_is(platform, form, status, words):
    browser = await platform.signed_in("olga")
    page = await browser.post("/projects", form)
    assert page.status_code == status
    assert words in page.text
    assert f'value="{form["name"]}"' in page.text
    assert faults(parsed(page)) == []


async def test_a_quota_is_typed_in_gib_and_kept_in_bytes(platform):
    browser = await platform.signed_in("olga")
    form = {"name": "big", "organization": "default", "cpu": "2,5", "memory": "1.5", "gpus": ""}
    page = await browser.post("/projects", form)
    quota = platform.api.projects["p-big"]["quota"]
    assert quota == {"cpu": 2.5, "memory": 3 * 2**29, "gpus": None, "storage": None}
    assert "1.5 GiB" in page.text


# --- settings


async def test_a_change_is_saved(platform):
    browser = await platform.signed_in("ada")
    page = parsed(await browser.get(f"{DEMO}/settings"))
    etag = page.xpath("string(//input[@name='etag']/@value)")
    page = await browser.post(f"{DEMO}/settings", {"description": "Better.", "etag": etag})
    assert "The settings are saved." in page.text
    assert platform.api.projects["p-demand-forecast"]["description"] == "Better."


async def test_who_comes_second_sees_what_the_first_one_saved(platform):
    browser = await platform.signed_in("olga")
    page = parsed(await browser.get(f"{DEMO}/settings"))
    etag = page.xpath("string(//input[@name='etag']/@value)")
    project = platform.api.projects["p-demand-forecast"]
    project |= {"description": "Theirs.", "version": 2}
    project["quota"] = {**project["quota"], "memory": 64 * 2**30}
    form = {"description": "Mine.", "etag": etag, "cpu": "8", "memory": "32", "gpus": "1"}
    page = await browser.post(f"{DEMO}/settings", {**form, "storage": "200"})
    assert page.status_code == 412
    text = " ".join(parsed(page).text_content().split())
    assert "Somebody changed it meanwhile" in text
    newer = parsed(page).xpath("//div[@class='notice']//dl")[0].text_content().split()
    assert newer == ["DescriptionTheirs.Memory64", "GiB"]
    assert ">Mine.</textarea>" in page.text
    newer = parsed(page).xpath("string(//input[@name='etag']/@value)")
    await browser.post(f"{DEMO}/settings", {**form, "storage": "200", "etag": newer})
    assert project["description"] == "Mine."
    assert project["quota"]["memory"] == 32 * 2**30


async def test_a_project_goes_when_its_name_has_been_typed(platform):
    browser = await platform.signed_in("ada")
    page = await browser.post(f"{DEMO}/delete", {"confirmed": "demand"})
    assert page.status_code == 422
    assert "p-demand-forecast" in platform.api.projects
    page = await browser.post(f"{DEMO}/delete", {"confirmed": "demand-forecast"})
    assert page.url.path == "/projects"
    assert "p-demand-forecast" not in platform.api.projects


async def test_a_question_comes_as_a_dialog_or_as_a_page(platform):
    browser = await platform.signed_in("ada")
    part = await browser.get(f"{DEMO}/delete", **HTMX, hx_target="dialog")
    assert "<html" not in part.text
    assert "Delete demand-forecast?" in part.text
    assert "<html" in (await browser.get(f"{DEMO}/delete")).text


# --- members


async def test_somebody_is_invited_gets_another_role_and_goes(platform):
    browser = await platform.signed_in("ada")
    roles = platform.api.projects["p-demand-forecast"]["roles"]
    page = await browser.post(f"{DEMO}/members", {"user": "nina", "role": "viewer"})
    assert "nina is a member now, as viewer." in page.text
    await browser.post(f"{DEMO}/members/id-of-nina", {"role": "contributor"})
    assert roles["id-of-nina"] == "contributor"
    page = await browser.post(f"{DEMO}/members/id-of-nina/remove")
    assert page.url.path == f"{DEMO}/members"
    assert "id-of-nina" not in roles


@pytest.mark.parametrize(
    ("path", "form", "words"),
    [
        ("", {"user": "nobody", "role": "viewer"}, "Nobody is called nobody."),
        ("", {"user": "carl", "role": "viewer"}, "carl is a member already."),
        ("/id-of-ada", {"role": "viewer"}, "The last owner of a project cannot go."),
        ("/id-of-ada/remove", {}, "The last owner of a project cannot go."),
    ],
)
async def test_what_cannot_be_done_with_a_member_is_said_in_words(platform, path, form, words):
    browser = await platform.signed_in("ada")
    page = await browser.post(f"{DEMO}/members{path}", form)
    assert words in page.text
    assert faults(parsed(page)) == []


# --- experiments


async def test_a_metric_is_drawn_and_stands_in_a_table_too(platform):
    page = parsed(await (await platform.signed_in("vera")).get(f"{DEMO}/experiments?key=loss"))
    (drawing,) = page.xpath("//figure/svg")
    assert drawing.xpath("string(title)") == "loss over steps"
    assert "bold-crane-12: from 1.2 to" in drawing.xpath("string(desc)")
    assert len(drawing.xpath("path")) == 4
    headings = page.xpath("//details//thead/tr/th/text()")
    assert headings == ["Step", "bold-crane-12", "calm-otter-7", "kind-ibis-3", "wild-newt-9"]
    assert len(page.xpath("//section[@aria-labelledby='runs-heading']//tbody/tr")) == 4


async def test_a_metric_is_chosen_without_the_rest_of_the_page(platform):
    browser = await platform.signed_in("vera")
    path = f"{DEMO}/experiments?experiment=e0&key=accuracy"
    part = await browser.get(path, **HTMX, hx_target="chosen")
    assert "<html" not in part.text
    assert "accuracy over steps" in part.text


async def test_an_experiment_is_created(platform):
    browser = await platform.signed_in("carl")
    page = await browser.post(f"{DEMO}/experiments", {"name": "fresh"})
    assert page.url.params["experiment"] == "e3"
    assert "No runs yet" in page.text
    page = await browser.post(f"{DEMO}/experiments", {"name": "fresh"})
    assert "There is an experiment fresh already." in page.text


@pytest.mark.parametrize("part", ["experiments", "files"])
async def test_what_is_not_connected_is_said_within_the_project(platform, part):
    platform.api.away.add(part)
    page = await (await platform.signed_in("ada")).get(f"{DEMO}/{part}")
    assert page.status_code == 200
    assert f"{part.title()} are not connected to this platform yet." in page.text


# --- files


async def test_a_file_comes_as_a_download_that_no_browser_shows(platform):
    browser = await platform.signed_in("vera")
    answer = await browser.ask("GET", f"{DEMO}/content/%3Cb%3Ebold%3C/b%3E.txt")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''b%3E.txt"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    part = await browser.ask("GET", f"{DEMO}/content/README.md", {"range": "bytes=2-7"})
    assert (part.status_code, part.content) == (206, b"Demand")
    assert (await browser.get(f"{DEMO}/content/no.txt")).status_code == 404


async def test_a_file_is_uploaded_as_it_comes_and_deleted(platform):
    browser = await platform.signed_in("carl")
    headers = {"x-csrf-token": await browser.token(), "content-type": "text/csv"}
    path = f"{DEMO}/content/data/a%20b.csv"
    answer = await browser.ask("PUT", path, headers, content=b"x" * 300_000)
    assert answer.status_code == 201
    assert platform.api.files["data/a b.csv"] == b"x" * 300_000
    sent = platform.api.asked[-1][2]
    assert sent["content-length"] == "300000"
    assert "cookie" not in sent
    page = await browser.post(f"{DEMO}/files/delete", {"path": "data/a b.csv"})
    assert page.url.params["prefix"] == "data/"
    assert "data/a b.csv" not in platform.api.files


async def test_an_upload_without_the_token_or_the_right_is_refused(platform):
    browser = await platform.signed_in("carl")
    assert (await browser.ask("PUT", f"{DEMO}/content/x", content=b"x")).status_code == 403
    viewer = await platform.signed_in("vera")
    headers = {"x-csrf-token": await viewer.token(), **HTMX}
    answer = await viewer.ask("PUT", f"{DEMO}/content/x", headers, content=b"x")
    assert answer.status_code == 403
    assert "You lack the right file.write" in answer.text
    assert "x" not in platform.api.files


async def test_names_of_files_are_text_and_nothing_else(platform):
    page = await (await platform.signed_in("vera")).get(f"{DEMO}/files?prefix=%3Cb%3Ebold%3C/")
    assert "<b>bold" not in page.text
    assert "b&gt;.txt" in page.text


# --- administration


async def test_a_user_is_deactivated_loses_every_session_and_comes_back(platform):
    carl = await platform.signed_in("carl")
    root = await platform.signed_in("root")
    question = await root.get("/administration/users/id-of-carl/deactivate")
    assert "Deactivate carl?" in question.text
    page = await root.post("/administration/users/id-of-carl", {"active": "false"})
    assert "carl is deactivated." in page.text
    assert (await carl.ask("GET", "/account")).status_code == 302
    await root.post("/administration/users/id-of-carl", {"active": "true"})
    assert platform.api.users["id-of-carl"]["active"]


async def test_nobody_is_offered_to_deactivate_themselves(platform):
    page = await (await platform.signed_in("root")).get("/administration/users")
    assert "/administration/users/id-of-ada/deactivate" in links(page)
    assert "/administration/users/id-of-root/deactivate" not in links(page)


async def test_an_organization_is_made_gets_members_and_goes(platform):
    browser = await platform.signed_in("root")
    page = await browser.post("/administration/organizations", {"name": "lab"})
    here = page.url.path
    assert here == "/administration/organizations/lab"
    page = await browser.post(f"{here}/members", {"user": "ada@mlops.example", "role": "admin"})
    assert "Ada Lovelace" in page.text
    page = await browser.post(f"{here}/members/id-of-ada", {"role": "member"})
    assert platform.api.organizations["lab"]["roles"] == {"id-of-ada": "member"}
    await browser.post(f"{here}/members/id-of-ada/remove")
    await browser.post(f"{here}/delete")
    assert "lab" not in platform.api.organizations
    page = await browser.post(f"{ORGANIZATION}/delete")
    assert "It still has projects." in page.text


async def test_the_audit_log_is_filtered_and_paged(platform):
    browser = await platform.signed_in("root")
    page = await browser.get("/administration/audit?actor=ada")
    (more,) = parsed(page).xpath("//a[@rel='next']/@href")
    assert "actor=ada" in more
    assert "First page" in (await browser.get(f"/administration/audit{more}")).text


# --- what goes wrong


async def test_an_error_is_a_sentence_and_has_the_id_of_its_request(platform):
    browser = await platform.signed_in("ada")
    page = await browser.get("/projects/nothing", X_Request_Id="abc-123")
    assert page.status_code == 404
    assert "There is nothing of this name." in page.text
    assert "abc-123" in page.text
    assert platform.api.asked[-1][2]["x-request-id"] == "abc-123"


async def test_a_request_id_that_is_none_is_replaced(platform):
    answer = await platform.browser().ask("GET", "/signed-out", {"x-request-id": "<b>"})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_while_the_api_is_away_a_person_reads_so(platform):
    browser = await platform.signed_in("ada")
    platform.api.silent = True
    page = await browser.get("/")
    assert page.status_code == 503
    assert "The database does not answer. Try again soon." in page.text
    assert "Traceback" not in page.text


async def test_without_an_api_a_person_reads_so(platform):
    browser = await platform.signed_in("ada")
    browser.turn_to(platform.unit(dataclasses.replace(SETTINGS, api=None)))
    page = await browser.get("/")
    assert page.status_code == 503
    assert "The platform is not connected" in page.text
    assert "mailto:help@mlops.example" in page.text


async def test_a_part_of_a_page_that_fails_says_so_in_the_page(platform):
    browser = await platform.signed_in("ada")
    headers = {**HTMX, "hx-target": "list", "hx-current-url": f"{URL}/projects?q=x"}
    platform.api.silent = True
    answer = await browser.ask("GET", "/projects?q=xy", headers)
    assert answer.status_code == 503
    assert answer.headers["hx-retarget"] == "#notices"
    assert 'role="alert"' in answer.text
    platform.database["sessions"].documents.clear()
    answer = await browser.ask("GET", "/projects?q=xy", headers)
    assert answer.status_code == 401
    assert 'href="/sign-in?next=%2Fprojects%3Fq%3Dx"' in answer.text


async def test_a_form_that_is_too_long_is_refused(platform):
    browser = await platform.signed_in("ada")
    page = await browser.post("/projects", {"name": "x" * 100_000})
    assert page.status_code == 413
