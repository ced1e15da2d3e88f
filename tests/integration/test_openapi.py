"""What the API's OpenAPI document says, it does, whatever one sends: no 5xx, no other shape."""

import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from deployed import ROOT, Platform
from hypothesis import HealthCheck, settings
from people import Accounts, Person
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

sys.path.insert(0, str(ROOT / "charms/katonic-api/app"))
from katonic_api.app import create
from katonic_api.settings import Settings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def accounts(platform: Platform) -> Iterator[Accounts]:
    accounts = Accounts(platform)
    yield accounts
    accounts.remove()


@pytest.fixture(scope="module")
def url(platform: Platform) -> str:
    return platform.url("katonic-api", 8080)


@pytest.fixture(scope="module")
def root(accounts: Accounts) -> Iterator[Person]:
    """Yield who asks; the organizations that the requests happen to make go with them."""
    root = accounts.person(f"schema-{secrets.token_hex(3)}", platform_admin=True)
    yield root
    root = accounts.anew(root)
    made = f"/v1/audit?actor={root.id}&action=organization.create&limit=200"
    for it in root("GET", made).json["items"]:
        root("DELETE", f"/v1/organizations/{it['entity']['id']}", If_Match="*")


@pytest.fixture(scope="module")
def project(root: Person, accounts: Accounts) -> Iterator[str]:
    """Yield a project of an organization of its own."""
    name = f"schema-{secrets.token_hex(3)}"
    organization = root("POST", "/v1/organizations", {"name": name}).json["id"]
    made = root("POST", "/v1/projects", {"name": name, "organization": organization}).json["id"]
    yield made
    accounts.anew(root)("DELETE", f"/v1/projects/{made}", If_Match="*")


SETTINGS = Settings(
    database_url="mongodb://nowhere",
    database="none",
    issuer="none",
    jwks_url="none",
    token_url="none",
    client_id="none",
    client_secret="none",
)
DOCUMENT = create(SETTINGS).openapi()
schema = schemathesis.openapi.from_dict(DOCUMENT)


def test_the_document_is_that_of_this_repository(url):
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        assert {**json.load(answer), "servers": None} == {**DOCUMENT, "servers": None}


SLOW: list[Any] = [*HealthCheck]
"""A deployed server is no function: hypothesis is not to judge its pace."""


@schema.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
def test_every_path_answers_as_it_says(case, url, root, accounts, project):
    if "project_id" in case.path_parameters:  # else nearly every answer would be 404
        case.path_parameters["project_id"] = project
    headers = {"Authorization": f"Bearer {accounts.anew(root).token}"}
    case.call_and_validate(url, headers=headers, checks=CHECKS, timeout=60)
