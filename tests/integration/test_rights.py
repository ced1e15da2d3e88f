"""Each role, each verb, in one's own organization and in another, asked of the deployed API."""

import dataclasses
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from deployed import ROOT, Platform, eventually
from people import Accounts, Answer, Person

sys.path.insert(0, str(ROOT / "charms/katonic-api/app"))
from katonic_api.rights import RIGHTS, Role, Verb, may

ROLES, VERBS = get_args(Role), get_args(Verb)
ANY, STALE = {"If_Match": "*"}, {"If_Match": '"0-0"'}


@dataclass(frozen=True)
class House:
    """An organization with a project, and somebody of each role in them.

    Attributes:
        root: The platform admin who made it.
        members: By role.
        colleague: A member of the organization whom no test is.
    """

    root: Person
    organization: str
    project: str
    members: dict[str, Person]
    colleague: Person

    def name(self) -> str:
        """Return a name that nothing has."""
        return f"x{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def accounts(platform: Platform) -> Iterator[Accounts]:
    accounts = Accounts(platform)
    yield accounts
    accounts.remove()


@pytest.fixture(scope="module")
def houses(accounts: Accounts) -> Iterator[dict[str, House]]:
    """Yield two organizations that have nothing to do with each other."""
    suffix = secrets.token_hex(3)
    root = accounts.person(f"root-{suffix}", platform_admin=True)
    made = {name: _house(accounts, root, f"{name}-{suffix}") for name in ("own", "other")}
    yield made
    root = accounts.anew(root)
    for it in made.values():
        root("DELETE", f"/v1/projects/{it.project}", **ANY)
        assert root("DELETE", f"/v1/organizations/{it.organization}", **ANY).status == 204


def _house(accounts: Accounts, root: Person, name: str) -> House:
    organization = root("POST", "/v1/organizations", {"name": name}).json["id"]
    said = {"name": name, "organization": organization}
    project = root("POST", "/v1/projects", said).json["id"]
    members = {role: accounts.person(f"{role}-{name}") for role in ROLES[1:]}
    colleague = accounts.person(f"colleague-{name}")
    for person, role in (
        (members["organization-admin"], "admin"),
        (members["organization-member"], "member"),
        (colleague, "member"),
    ):
        path = f"/v1/organizations/{organization}/members/{person.id}"
        assert root("PUT", path, {"role": role}).status == 200
    for role in ("owner", "contributor", "viewer"):
        said = {"user": members[role].name, "role": role}
        assert root("POST", f"/v1/projects/{project}/members", said).status == 201
    return House(root, organization, project, {"platform-admin": root, **members}, colleague)


def _create_project(who: Person, house: House) -> Answer:
    said = {"name": house.name(), "organization": house.organization}
    answer = who("POST", "/v1/projects", said)
    if answer.status == 201:
        house.root("DELETE", f"/v1/projects/{answer.json['id']}", **ANY)
    return answer


def _create_organization(who: Person, house: House) -> Answer:
    answer = who("POST", "/v1/organizations", {"name": house.name()})
    if answer.status == 201:
        house.root("DELETE", f"/v1/organizations/{answer.json['id']}", **ANY)
    return answer


def _delete_file(who: Person, house: House) -> Answer:
    path = f"/v1/projects/{house.project}/files/{house.name()}"
    assert house.root("PUT", path, b"x").status == 201
    return who("DELETE", path)


def ask(method: str, path: str, body: Any = None, **headers: str) -> Callable[..., Answer]:
    """Return what asks for a path of the house's."""

    def asked(who: Person, house: House) -> Answer:
        places = {
            "organization": f"/v1/organizations/{house.organization}",
            "project": f"/v1/projects/{house.project}",
            "member": house.members["organization-member"].id,
            "colleague": house.colleague.id,
            "viewer": house.members["viewer"].id,
            "id": house.project,
            "new": house.name(),
        }
        said = {key: house.name() if it == "NEW" else it for key, it in (body or {}).items()}
        return who(method, path.format(**places), said if body else None, **headers)

    return asked


HOW: dict[Verb, tuple[Callable[[Person, House], Answer], int]] = {
    "organization.create": (_create_organization, 201),
    "organization.read": (ask("GET", "{organization}"), 200),
    "organization.update": (ask("PATCH", "{organization}", {"description": "NEW"}, **ANY), 200),
    # Who may delete it gets as far as to be told that it is not what it was.
    "organization.delete": (ask("DELETE", "{organization}", **STALE), 412),
    "organization.read-members": (ask("GET", "{organization}/members"), 200),
    "organization.manage-members": (
        ask("PUT", "{organization}/members/{member}", {"role": "member"}),
        200,
    ),
    "project.create": (_create_project, 201),
    "project.read": (ask("GET", "{project}"), 200),
    "project.update": (ask("PATCH", "{project}", {"description": "NEW"}, **ANY), 200),
    "project.set-quota": (ask("PATCH", "{project}", {"quota": {"cpu": 2}}, **ANY), 200),
    "project.delete": (ask("DELETE", "{project}", **STALE), 412),
    "project.read-members": (ask("GET", "{project}/members"), 200),
    "project.manage-members": (
        ask("PUT", "{project}/members/{viewer}", {"role": "viewer"}),
        200,
    ),
    "experiment.read": (ask("GET", "{project}/experiments"), 200),
    "experiment.create": (ask("POST", "{project}/experiments", {"name": "NEW"}), 201),
    "file.read": (ask("GET", "{project}/files"), 200),
    "file.write": (ask("PUT", "{project}/files/{new}", {"x": "NEW"}), 201),
    "file.delete": (_delete_file, 204),
    "user.list": (ask("GET", "/v1/users"), 200),
    "user.read": (ask("GET", "/v1/users/{colleague}"), 200),
    "user.update": (ask("PATCH", "/v1/users/{member}", {"active": True}), 200),
    "audit.read": (ask("GET", "/v1/audit?project={id}"), 200),
}
SEEN_BY: dict[str, Verb] = {
    "organization": "organization.read",
    "project": "project.read",
    "experiment": "project.read",
    "file": "project.read",
    "audit": "project.read",
}


def refusal(verb: Verb, role: Role, where: str) -> int:
    """Return the answer to who lacks the right: 404 where they may not even see what it is of."""
    if verb in ("organization.create", "user.list", "user.update"):
        return 403
    if verb == "user.read":  # an admin's answer does not tell whether there is such a user
        return 404 if role == "organization-admin" else 403
    kind = verb.partition(".")[0]
    seen_by = "organization.read" if verb == "project.create" else SEEN_BY[kind]
    return 403 if where == "own" and may([role], seen_by) else 404


@pytest.mark.parametrize("where", ["own", "other"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_cell_of_the_table(houses, accounts, verb, role, where):
    who = accounts.anew(houses["own"].members[role])
    house = dataclasses.replace(houses[where], root=accounts.anew(houses[where].root))
    asked, done = HOW[verb]
    everywhere = role == "platform-admin" or verb == "user.list"
    allowed = role in RIGHTS[verb] and (where == "own" or everywhere)
    answer = asked(who, house)
    assert answer.status == (done if allowed else refusal(verb, role, where)), answer.body
    if answer.status in (403, 404):
        assert answer.headers["content-type"] == "application/problem+json"
    if answer.status == 403:
        assert verb in answer.json["detail"]


def test_what_a_project_and_an_organization_say_one_may_do_is_what_one_may(houses, accounts):
    house = houses["own"]
    for role in ROLES:
        for path, kind in (
            (f"/v1/projects/{house.project}", "project"),
            (f"/v1/organizations/{house.organization}", "organization"),
        ):
            answer = accounts.anew(house.members[role])("GET", path)
            if answer.status == 200:
                said = set(answer.json["permissions"])
                assert f"{kind}.read" in said
                assert said == {it for it in said if role in RIGHTS[it]}


def test_the_users_of_another_organization_are_not_in_an_admins_list(houses, accounts):
    admin = accounts.anew(houses["own"].members["organization-admin"])
    found = {it["id"] for it in admin("GET", "/v1/users?limit=200").json["items"]}
    assert houses["own"].members["organization-member"].id in found
    assert houses["other"].members["organization-member"].id not in found


def test_who_is_deactivated_is_refused_and_gets_no_token_any_more(houses, accounts):
    root = accounts.anew(houses["own"].root)
    person = accounts.person(f"gone-{secrets.token_hex(3)}")
    assert person("GET", "/v1/projects").status == 200
    assert root("PATCH", f"/v1/users/{person.id}", {"active": False}).status == 200
    assert person("GET", "/v1/projects").status == 403
    with pytest.raises(OSError, match="HTTP Error 40"):
        accounts.token(person.name)
    assert root("PATCH", f"/v1/users/{person.id}", {"active": True}).status == 200
    assert eventually(lambda: person("GET", "/v1/projects").status == 200)
    assert accounts.token(person.name)


def test_one_with_an_account_is_invited_before_they_ever_signed_in(houses, accounts):
    root, house = accounts.anew(houses["own"].root), houses["own"]
    person = accounts.person(f"early-{secrets.token_hex(3)}", sign_in=False)
    said = {"user": f"{person.name}@example.org", "role": "viewer"}
    assert root("POST", f"/v1/projects/{house.project}/members", said).status == 201
    assert person("GET", f"/v1/projects/{house.project}").json["my_role"] == "viewer"
    removed = root("DELETE", f"/v1/projects/{house.project}/members/{person.id}")
    assert removed.status == 204
    assert person("GET", f"/v1/projects/{house.project}").status == 404
