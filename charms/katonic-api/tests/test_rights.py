"""Each role, each verb: what the table of the rights says, cell by cell."""

from typing import get_args

import pytest
from katonic_api import rights
from katonic_api.callers import Caller
from katonic_api.entities import Member, Membership, Project, User
from katonic_api.rights import RIGHTS, Role, Verb, may

EXPECTED = """
                             platform org   org    owner contri- viewer
                             admin    admin member       butor
organization.create          yes      no    no     no    no      no
organization.read            yes      yes   yes    no    no      no
organization.update          yes      yes   no     no    no      no
organization.delete          yes      no    no     no    no      no
organization.read-members    yes      yes   yes    no    no      no
organization.manage-members  yes      yes   no     no    no      no
project.create               yes      yes   yes    no    no      no
project.read                 yes      yes   no     yes   yes     yes
project.update               yes      yes   no     yes   no      no
project.set-quota            yes      yes   no     no    no      no
project.delete               yes      yes   no     yes   no      no
project.read-members         yes      yes   no     yes   yes     yes
project.manage-members       yes      yes   no     yes   no      no
experiment.read              yes      yes   no     yes   yes     yes
experiment.create            yes      yes   no     yes   yes     no
file.read                    yes      yes   no     yes   yes     yes
file.write                   yes      yes   no     yes   yes     no
file.delete                  yes      yes   no     yes   yes     no
user.list                    yes      yes   no     no    no      no
user.read                    yes      yes   no     no    no      no
user.update                  yes      no    no     no    no      no
audit.read                   yes      yes   no     yes   yes     yes
"""
ROLES = get_args(Role)
ROWS = [line.split() for line in EXPECTED.splitlines() if "." in line.partition(" ")[0]]
CELLS = [
    (role, verb, word == "yes")
    for verb, *words in ROWS
    for role, word in zip(ROLES, words, strict=True)
]


@pytest.mark.parametrize(("role", "verb", "allowed"), CELLS)
def test_a_cell(role, verb, allowed):
    assert may([role], verb) is allowed


def test_every_verb_is_in_the_table_and_nothing_else():
    assert {row[0] for row in ROWS} == RIGHTS.keys() == set(get_args(Verb))


def test_nobody_may_do_anything_without_a_role():
    assert not [it for it in RIGHTS if may([], it)]


def test_several_roles_have_the_rights_of_each():
    assert may(["viewer", "organization-admin"], "project.set-quota")
    assert may(["organization-member", "viewer"], "file.read")


def test_every_verb_is_asked_of_the_platform_an_organization_or_a_project():
    assert {*rights.PLATFORM, *rights.ORGANIZATION, *rights.PROJECT} == RIGHTS.keys()


ADA = User(id="ada", username="ada", organizations=(Membership(id="a", role="admin"),))
BOB = User(id="bob", username="bob", organizations=(Membership(id="a", role="member"),))
MINE = Project(
    id="p",
    name="mine",
    organization="a",
    created_by="x",
    members=(Member(user="bob", role="viewer"),),
)
OTHER = Project(id="q", name="other", organization="b", created_by="x")


def test_a_role_counts_in_its_own_organization_alone():
    assert Caller(ADA, False, "").roles("a") == ("organization-admin",)
    assert Caller(ADA, False, "").roles("b") == ()
    assert Caller(ADA, False, "").roles(project=MINE) == ("organization-admin",)
    assert Caller(ADA, False, "").roles(project=OTHER) == ()


def test_a_member_of_a_project_is_that_there_besides():
    assert Caller(BOB, False, "").roles(project=MINE) == ("organization-member", "viewer")


def test_a_platform_admin_is_one_everywhere():
    assert Caller(BOB, True, "").roles(project=OTHER) == ("platform-admin",)
