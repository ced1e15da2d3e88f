"""A client of MongoDB uses what it is given, and nothing but that; what it stored stays."""

import contextlib
import re
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from deployed import ROOT, Platform, eventually
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

NAME = "writer"


@pytest.fixture(scope="module")
def writer(platform: Platform, deploy_client) -> str:
    """Return a client that has a database of documents of its name."""
    deploy_client(NAME, database=NAME)
    platform.juju.integrate(f"{NAME}:documents", "mongodb:database")
    platform.settle("mongodb", NAME)
    return NAME


def uri(platform: Platform, client: str) -> str:
    """Return what the client has been given, once its charm has heard of it."""
    return eventually(lambda: platform.credentials(client)["documents-uri"])


def another(platform: Platform, client: str, old: str) -> str:
    """Return what the client has been given in the place of what it had."""
    return eventually(lambda: (it := uri(platform, client)) != old and it)


@contextlib.contextmanager
def database(platform: Platform, given: str) -> Iterator[Database[Any]]:
    """Yield the database of a URI, whose host is a name that only pods know."""
    parts = urlsplit(given)
    with MongoClient(
        platform.address("mongodb"),
        username=parts.username,
        password=parts.password,
        directConnection=True,
        serverSelectionTimeoutMS=5000,
    ) as client:
        yield client[parts.path.strip("/")]


def word(platform: Platform, given: str) -> str | None:
    """Return what the client has written, None when it is not there."""
    with database(platform, given) as it:
        found = it.words.find_one({"_id": "first"})
    return found and found["word"]


def is_refused(platform: Platform, given: str) -> bool:
    """Return whether the password of a URI lets nobody in."""
    try:
        word(platform, given)
    except OperationFailure as error:
        return error.code == 18
    return False


def test_a_client_writes_and_reads_with_what_it_is_given(platform, writer):
    given = uri(platform, writer)
    assert urlsplit(given).path == f"/{NAME}"
    with database(platform, given) as it:
        it.words.replace_one({"_id": "first"}, {"word": "written"}, upsert=True)
    assert word(platform, given) == "written"


def test_nobody_gets_in_without_a_password(platform, writer):
    with (
        database(platform, f"mongodb://nowhere/{NAME}") as it,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        it.words.find_one()


def test_a_rotated_password_is_followed_and_the_old_one_is_refused(platform, writer):
    old = uri(platform, writer)
    done = platform.juju.run("mongodb/0", "rotate-password", {"client": writer})
    assert done.results["rotated"] == writer
    assert word(platform, another(platform, writer, old)) == "written"
    assert is_refused(platform, old)


def test_the_administrator_s_password_is_rotated_and_the_clients_keep_theirs(platform, writer):
    def operator() -> str:
        given = platform.juju.run("mongodb/0", "get-operator-password").results
        return f"mongodb://{given['username']}:{given['password']}@nowhere/{NAME}"

    old, before = operator(), uri(platform, writer)
    platform.juju.run("mongodb/0", "rotate-password", {"operator": True})
    eventually(lambda: word(platform, operator()) == "written")
    assert is_refused(platform, old)
    assert uri(platform, writer) == before
    assert word(platform, before) == "written"


def test_a_pod_that_is_deleted_keeps_what_was_stored(platform, writer):
    def pod() -> str:
        return platform.kubectl("get", "pod", "mongodb-0", "-o", "jsonpath={.metadata.uid}")

    given, before = uri(platform, writer), pod()
    platform.kubectl("delete", "pod", "mongodb-0")
    eventually(lambda: pod() != before)
    platform.settle("mongodb")
    assert eventually(lambda: word(platform, given)) == "written"


def test_the_end_of_the_relation_takes_the_user_and_leaves_the_database(platform, writer):
    old = uri(platform, writer)
    platform.juju.remove_relation(f"{NAME}:documents", "mongodb:database")
    eventually(lambda: is_refused(platform, old))
    eventually(lambda: not platform.credentials(writer)["documents-uri"])
    platform.juju.integrate(f"{NAME}:documents", "mongodb:database")
    assert word(platform, another(platform, writer, old)) == "written"


def test_the_alerts_ask_for_metrics_that_there_are(platform, writer):
    with urllib.request.urlopen(f"{platform.url('mongodb', 8088)}/debug/metrics") as answer:
        known = set(re.findall(r"# HELP (\w+)", answer.read().decode()))
    rules = (ROOT / "charms/mongodb/src/prometheus_alert_rules/ferretdb.rules").read_text()
    asked = set(re.findall(r"\bferretdb_\w+", rules))
    assert asked
    assert asked <= known
