"""Parts that need no server: paths of files, parts of lists, ETags, answers that are kept."""

import asyncio

import pytest
from katonic_api.answers import check_match
from katonic_api.files import WrongPathError, check, check_folder
from katonic_api.freshness import Freshness
from katonic_api.pages import Order, cut
from katonic_api.problems import Problem
from katonic_api.settings import load
from pydantic import ValidationError


@pytest.mark.parametrize(
    "path", ["a", "a/b.csv", "ä/ß €", "..a", "a..", "a b/c", "-", ".x", "日本"]
)
def test_a_path_of_a_file(path):
    assert check(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a/..",
        "a\n",
        "\x00",
        "a\x7f",
        "a\u2028b",
        "a\u202eb",
        "x" * 901,
        "é" * 451,
    ],
)
def test_what_is_no_path_of_a_file(path):
    with pytest.raises(WrongPathError):
        check(path)


def test_a_folder_ends_with_a_slash_whether_one_writes_it_or_not():
    assert check_folder("a/b") == check_folder("a/b/") == "a/b/"
    assert check_folder("") == ""
    with pytest.raises(WrongPathError):
        check_folder("a/../..")


ROWS = [{"_id": it, "name": name} for it, name in zip("abcdef", "uvvvwx", strict=True)]


@pytest.mark.parametrize("text", ["name", "-name"])
def test_a_cursor_goes_on_after_its_document_and_equals_are_told_apart(text):
    order = Order.parse(text)
    query = order.after(order.cursor({"_id": "c", "name": "v"}))
    beyond = "$lt" if text == "-name" else "$gt"
    equals = {"name": "v", "_id": {beyond: "c"}}
    assert query == {"$or": [{"name": {beyond: "v"}}, equals]}
    assert order.keys == [("name", 1 if text == "name" else -1), ("_id", order.keys[0][1])]


@pytest.mark.parametrize(
    "cursor",
    ["x", "", "e30", "W10", "bnVsbA", "AAAA", Order("updated").cursor(ROWS[0] | {"updated": 1})],
)
def test_what_is_no_cursor_of_the_list_is_refused(cursor):
    with pytest.raises(Problem) as caught:
        Order("name").after(cursor)
    assert caught.value.status == 422


def test_a_list_at_hand_is_cut_into_parts():
    assert cut("abcde", 2, None) == (["a", "b"], "2")
    assert cut("abcde", 2, "2") == (["c", "d"], "4")
    assert cut("abcde", 2, "4") == (["e"], None)
    for wrong in ("-1", "x", "9" * 20, "²"):
        with pytest.raises(Problem):
            cut("abcde", 2, wrong)


@pytest.mark.parametrize("given", ['"3-abc"', '"3-other"', '"1-x", "3-y"', "*", 'W/"3-abc"'])
def test_who_has_seen_this_version_may_change_it(given):
    check_match(given, 3)


@pytest.mark.parametrize(
    ("given", "status"),
    [(None, 428), ('"2-abc"', 412), ('"33-abc"', 412), ("", 412), ('"abc"', 412), ("3", 412)],
)
def test_who_has_seen_another_or_none_may_not(given, status):
    with pytest.raises(Problem) as caught:
        check_match(given, 3)
    assert caught.value.status == status


class Counted:
    """A revision, and how often it was read."""

    def __init__(self) -> None:
        self.revision, self.looks = "a", 0

    async def look(self) -> str:
        self.looks += 1
        await asyncio.sleep(0.001)
        return self.revision


@pytest.mark.anyio
async def test_many_who_ask_at_once_share_a_look_at_the_revision():
    counted = Counted()
    fresh = Freshness(counted.look)
    assert await asyncio.gather(*(fresh.revision() for _ in range(100))) == ["a"] * 100
    assert counted.looks == 1


@pytest.mark.anyio
async def test_a_look_that_had_begun_before_one_asks_does_not_count():
    counted = Counted()
    gate = asyncio.Event()

    async def slow() -> str:
        seen = await counted.look()
        await gate.wait()
        return seen

    fresh = Freshness(slow)
    first = asyncio.create_task(fresh.revision())
    while not counted.looks:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    counted.revision = "b"
    second = asyncio.create_task(fresh.revision())
    await asyncio.sleep(0)
    gate.set()
    assert (await first, await second) == ("a", "b")


@pytest.mark.anyio
async def test_what_is_kept_is_made_once_for_a_revision():
    made = []

    async def make() -> str:
        made.append(1)
        return f"{len(made)}"

    fresh = Freshness(Counted().look)
    assert await asyncio.gather(*(fresh.get("k", "a", make) for _ in range(5))) == ["1"] * 5
    assert await fresh.get("k", "b", make) == "2"
    assert fresh.known("k", "b") == "2"
    assert fresh.known("k", "a") is None


@pytest.mark.anyio
async def test_a_failure_is_not_kept():
    async def fail() -> str:
        raise Problem(404, "gone")

    async def succeed() -> str:
        return "there"

    fresh = Freshness(Counted().look)
    with pytest.raises(Problem):
        await fresh.get("k", "a", fail)
    assert await fresh.get("k", "a", succeed) == "there"


@pytest.mark.anyio
async def test_no_more_is_kept_than_there_is_room_for():
    async def make() -> bytes:
        return b"x" * 400

    fresh = Freshness(Counted().look, size=1000)
    for key in "abc":
        await fresh.get(key, "a", make)
    await asyncio.sleep(0)
    assert [fresh.known(key, "a") is not None for key in "abc"] == [False, True, True]


GIVEN = {
    "KATONIC_DATABASE_URL": "mongodb://u:p@db/katonic-api",
    "KATONIC_DATABASE": "katonic-api",
    "KATONIC_ISSUER": "https://katonic.localhost/auth/realms/platform",
    "KATONIC_JWKS_URL": "http://keycloak/certs",
    "KATONIC_TOKEN_URL": "http://keycloak:8080/realms/platform/protocol/openid-connect/token",
    "KATONIC_CLIENT_ID": "katonic-api-3",
    "KATONIC_CLIENT_SECRET": "s3cret",
}


def test_the_environment_says_how_to_run():
    settings = load({**GIVEN, "KATONIC_WORKERS": "3", "KATONIC_BUCKET": ""})
    assert settings.workers == 3
    assert settings.bucket is None
    assert settings.users_url == "http://keycloak:8080/admin/realms/platform"
    assert "s3cret" not in repr(settings)
    assert ":p@" not in repr(settings)


def test_a_bucket_is_amazons_own_variables_and_ours():
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    settings = load({**GIVEN, **keys, "KATONIC_BUCKET": "files", "AWS_ENDPOINT_URL": "http://s3"})
    assert settings.bucket
    assert (settings.bucket.name, settings.bucket.endpoint) == ("files", "http://s3")
    assert "s3cret" not in repr(settings)


def test_what_lacks_or_is_wrong_is_named():
    with pytest.raises(ValidationError, match="workers"):
        load({**GIVEN, "KATONIC_WORKERS": "many"})
