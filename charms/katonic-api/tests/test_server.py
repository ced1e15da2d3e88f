"""What people may see and do, asked over HTTP of servers that stand on a small MongoDB."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_server import Client, Server, World, serving
from katonic_api import leftovers
from played_mongodb import Gone

pytestmark = pytest.mark.anyio
ANY = {"If-Match": "*"}


async def project(client: Client, name: str = "demo", **more: Any) -> dict[str, Any]:
    """Make a project."""
    said = {"name": name, "organization": "default", **more}
    answer = await client("POST", "/v1/projects", json=said)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def organization(root: Client, name: str = "science") -> dict[str, Any]:
    """Make an organization."""
    answer = await root("POST", "/v1/organizations", json={"name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def me(client: Client) -> dict[str, Any]:
    return (await client("GET", "/v1/me")).json()


def names(answer: Any) -> list[str]:
    return [it["name"] for it in answer.json()["items"]]


class TestPeople:
    async def test_the_first_sign_in_makes_a_user_and_a_member_of_the_default_organization(self):
        async with serving() as server:
            said = await me(server.person("ada"))
            assert said["username"] == "ada"
            assert said["organizations"] == [
                {"id": "default", "name": "default", "role": "member"}
            ]
            assert said["active"]
            assert not said["platform_admin"]
            assert said["permissions"] == []

    async def test_many_first_requests_at_once_make_one_user(self):
        async with serving() as server:
            ada = server.person("ada")
            answers = await asyncio.gather(*(ada("GET", "/v1/me") for _ in range(8)))
            assert {it.status_code for it in answers} == {200}
            assert len(server.world.mongodb.documents("users")) == 1
            (entry,) = server.world.mongodb.documents("audit")
            assert entry["action"] == "user.sign-in"

    async def test_a_changed_name_is_followed(self):
        async with serving() as server:
            identifier = server.world.keycloak.person("ada")
            await server.client(identifier)("GET", "/v1/me")
            server.world.keycloak.users[identifier]["lastName"] = "Lovelace"
            assert (await me(server.client(identifier)))["name"] == "Ada Lovelace"
            assert (await me(server.client(identifier, name=None)))["name"] == "Ada Lovelace"

    async def test_a_platform_admin_is_who_has_the_role_in_keycloak(self):
        async with serving() as server:
            said = await me(server.admin())
            assert said["platform_admin"]
            assert "organization.create" in said["permissions"]

    async def test_nobody_gets_in_without_a_token(self):
        async with serving() as server:
            for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
                answer = await server.http.get("/v1/me", headers=headers)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert answer.headers["Content-Type"] == "application/problem+json"

    async def test_who_is_deactivated_is_refused_by_every_server_and_disabled_in_keycloak(self):
        world = World()
        async with (
            world.mongodb.serve() as url,
            serving(world, url) as one,
            serving(world, url) as other,
        ):
            root, identifier = one.admin(), world.keycloak.person("ada")
            ada, ada_there = one.client(identifier), other.client(identifier)
            await project(ada)
            assert (await ada_there("GET", "/v1/projects")).status_code == 200
            path = f"/v1/users/{identifier}"
            answer = await root("PATCH", path, json={"active": False})
            assert answer.json()["active"] is False
            for client in (ada, ada_there):
                refusal = await client("GET", "/v1/projects")
                assert refusal.status_code == 403
                assert "deactivated" in refusal.json()["detail"]
            account = world.keycloak.users[identifier]
            assert account["enabled"] is False
            assert account["attributes"] == {"phone": ["1"]}
            assert world.keycloak.signed_out == [identifier]
            await root("PATCH", path, json={"active": True})
            assert (await ada_there("GET", "/v1/projects")).status_code == 200
            assert world.keycloak.users[identifier]["enabled"] is True

    async def test_nobody_deactivates_themselves_or_without_the_right(self):
        async with serving() as server:
            root, ada = server.admin(), server.person("ada")
            mine = (await me(root))["id"]
            refusal = await root("PATCH", f"/v1/users/{mine}", json={"active": False})
            assert refusal.status_code == 409
            refusal = await ada("PATCH", f"/v1/users/{mine}", json={"active": False})
            assert refusal.status_code == 403
            assert "user.update" in refusal.json()["detail"]
            assert (await root("PATCH", "/v1/users/x", json={"active": False})).status_code == 404

    async def test_sign_out_everywhere_ends_the_sessions_in_keycloak(self):
        async with serving() as server:
            ada = server.person("ada")
            assert (await ada("POST", "/v1/me/sign-out-everywhere")).status_code == 204
            assert server.world.keycloak.signed_out == [(await me(ada))["id"]]

    async def test_who_lists_users_sees_those_of_their_organizations(self):
        async with serving() as server:
            root, ada, bob = server.admin(), server.person("ada"), server.person("bob")
            science = await organization(root)
            ids = {it: (await me(client))["id"] for it, client in (("ada", ada), ("bob", bob))}
            members = f"/v1/organizations/{science['id']}/members"
            await root("PUT", f"{members}/{ids['ada']}", json={"role": "admin"})
            everyone = (await root("GET", "/v1/users")).json()
            assert [it["username"] for it in everyone["items"]] == ["ada", "bob", "root"]
            (only,) = (await ada("GET", "/v1/users")).json()["items"]
            assert only["username"] == "ada"
            assert [it["name"] for it in only["organizations"]] == ["science"]
            assert (await ada("GET", f"/v1/users/{ids['bob']}")).status_code == 404
            assert (await bob("GET", "/v1/users")).status_code == 403
            assert (await bob("GET", f"/v1/users/{ids['bob']}")).status_code == 200
            refused = await bob("GET", f"/v1/users/{ids['ada']}")
            assert refused.status_code == 403
            assert "user.read" in refused.json()["detail"]
            assert (await me(ada))["permissions"] == ["user.list", "user.read", "audit.read"]

    async def test_users_are_searched_and_filtered(self):
        async with serving() as server:
            root = server.admin()
            for name in ("ada", "bob", "adam"):
                await me(server.person(name))
            found = (await root("GET", "/v1/users?q=ADA")).json()["items"]
            assert [it["username"] for it in found] == ["ada", "adam"]
            assert (await root("GET", "/v1/users?q=.*")).json()["items"] == []
            bob = (await root("GET", "/v1/users?q=bob")).json()["items"][0]["id"]
            await root("PATCH", f"/v1/users/{bob}", json={"active": False})
            found = (await root("GET", "/v1/users?active=false")).json()["items"]
            assert [it["username"] for it in found] == ["bob"]

    async def test_while_keycloak_is_away_known_people_go_on_and_its_own_work_is_refused(self):
        async with serving() as server:
            root, ada = server.admin(), server.person("ada")
            await me(root)
            identifier = (await me(ada))["id"]
            server.world.keycloak.answers = False
            assert (await ada("GET", "/v1/projects")).status_code == 200
            refusal = await ada("POST", "/v1/me/sign-out-everywhere")
            assert refusal.status_code == 503
            assert refusal.headers["Retry-After"]
            refusal = await root("PATCH", f"/v1/users/{identifier}", json={"active": False})
            assert refusal.status_code == 503
            assert (await ada("GET", "/v1/projects")).status_code == 403

    async def test_without_the_right_in_keycloak_the_operator_is_told_what_to_do(self):
        async with serving() as server:
            ada = server.person("ada")
            server.world.keycloak.manages = False
            refusal = await ada("POST", "/v1/me/sign-out-everywhere")
            assert "user-managers" in refusal.json()["detail"]


class TestOrganizations:
    async def test_what_one_is_not_in_is_not_there(self):
        async with serving() as server:
            root, ada = server.admin(), server.person("ada")
            science = await organization(root)
            path = f"/v1/organizations/{science['id']}"
            assert (await ada("GET", path)).status_code == 404
            assert (await ada("PATCH", path, json={}, headers=ANY)).status_code == 404
            assert (await ada("DELETE", path, headers=ANY)).status_code == 404
            assert (await ada("GET", f"{path}/members")).status_code == 404
            said = {"name": "mine", "organization": science["id"]}
            assert (await ada("POST", "/v1/projects", json=said)).status_code == 404
            assert names(await ada("GET", "/v1/organizations")) == ["default"]
            assert names(await root("GET", "/v1/organizations")) == ["default", "science"]

    async def test_only_platform_admins_make_them(self):
        async with serving() as server:
            ada = server.person("ada")
            refusal = await ada("POST", "/v1/organizations", json={"name": "mine"})
            assert refusal.status_code == 403
            assert "organization.create" in refusal.json()["detail"]

    async def test_it_counts_its_members_and_projects(self):
        async with serving() as server:
            root, ada = server.admin(), server.person("ada")
            await project(ada)
            await project(ada, "other")
            await me(root)
            said = (await ada("GET", "/v1/organizations/default")).json()
            assert (said["projects"], said["members"], said["my_role"]) == (2, 2, "member")
            assert "project.create" in said["permissions"]
            assert "organization.update" not in said["permissions"]

    async def test_an_admin_has_every_right_in_its_projects_and_in_no_others(self):
        async with serving() as server:
            root, ada, bob = server.admin(), server.person("ada"), server.person("bob")
            science = await organization(root)
            path = f"/v1/organizations/{science['id']}/members"
            for client, role in ((ada, "admin"), (bob, "member")):
                await root("PUT", f"{path}/{(await me(client))['id']}", json={"role": role})
            theirs = await project(bob, organization=science["id"])
            others = await project(bob)
            said = (await ada("GET", f"/v1/projects/{theirs['id']}")).json()
            assert said["my_role"] is None
            assert "project.set-quota" in said["permissions"]
            assert (await ada("GET", f"/v1/projects/{others['id']}")).status_code == 404
            assert names(await ada("GET", "/v1/projects")) == ["demo"]

    async def test_people_are_made_members_by_name_even_before_they_signed_in(self):
        async with serving() as server:
            root = server.admin()
            science = await organization(root)
            carol = server.world.keycloak.person("carol")
            path = f"/v1/organizations/{science['id']}/members"
            said = {"user": "carol@example.org", "role": "member"}
            assert (await root("POST", path, json=said)).status_code == 201
            assert (await root("POST", path, json=said)).status_code == 409
            assert (await root("POST", path, json=said | {"user": "nobody"})).status_code == 404
            organizations = (await me(server.client(carol)))["organizations"]
            assert [it["name"] for it in organizations] == ["default", "science"]

    async def test_who_leaves_it_leaves_its_projects_too(self):
        async with serving() as server:
            root, ada, bob = server.admin(), server.person("ada"), server.person("bob")
            mine = await project(ada)
            bobs = (await me(bob))["id"]
            members = f"/v1/projects/{mine['id']}/members"
            await ada("POST", members, json={"user": "bob", "role": "contributor"})
            gone = await root("DELETE", f"/v1/organizations/default/members/{bobs}")
            assert gone.status_code == 204
            assert (await bob("GET", f"/v1/projects/{mine['id']}")).status_code == 404
            adas = (await me(ada))["id"]
            last = await root("DELETE", f"/v1/organizations/default/members/{adas}")
            assert last.status_code == 409
            assert "last owner" in last.json()["detail"]

    async def test_it_is_deleted_when_it_has_no_projects_and_the_default_one_never(self):
        async with serving() as server:
            root = server.admin()
            science = await organization(root)
            made = await project(root, organization=science["id"])
            path = f"/v1/organizations/{science['id']}"
            assert (await root("DELETE", path, headers=ANY)).status_code == 409
            await root("DELETE", f"/v1/projects/{made['id']}", headers=ANY)
            assert (await root("DELETE", path, headers=ANY)).status_code == 204
            assert (await root("GET", path)).status_code == 404
            default = "/v1/organizations/default"
            assert (await root("DELETE", default, headers=ANY)).status_code == 409
            renamed = await root("PATCH", default, json={"name": "all"}, headers=ANY)
            assert renamed.status_code == 409


class TestProjects:
    async def test_who_makes_one_owns_it(self):
        async with serving() as server:
            made = await project(server.person("ada"), description="What for.")
            assert made["my_role"] == "owner"
            assert made["organization"] == {"id": "default", "name": "default"}
            assert made["members"] == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": "Demo"},
            {"name": "a"},
            {"name": "-demo"},
            {"name": "demo-"},
            {"name": "x" * 41},
            {"name": "demo\n"},
            {"name": None},
            {"quota": {"cpu": 0}},
            {"quota": {"cpu": "NaN"}},
            {"quota": {"memory": -1}},
            {"quota": {"gpus": 1.5}},
            {"quota": {"disk": 1}},
            {"description": "x" * 2001},
            {"owner": "me"},
        ],
    )
    async def test_wrong_values_are_named(self, wrong):
        async with serving() as server:
            said = {"name": "demo", "organization": "default", **wrong}
            answer = await server.admin()("POST", "/v1/projects", json=said)
            assert answer.status_code == 422
            assert answer.headers["Content-Type"] == "application/problem+json"
            (key,) = wrong
            assert all(key in it["loc"] for it in answer.json()["errors"])

    async def test_a_quota_is_for_admins_to_set(self):
        async with serving() as server:
            root, ada = server.admin(), server.person("ada")
            said = {"name": "demo", "organization": "default", "quota": {"cpu": 2.5}}
            assert (await ada("POST", "/v1/projects", json=said)).status_code == 403
            made = await project(ada, quota={"cpu": None})
            path = f"/v1/projects/{made['id']}"
            quota = {"quota": {"cpu": 4, "memory": 2**33, "gpus": 0}}
            assert (await ada("PATCH", path, json=quota, headers=ANY)).status_code == 403
            answer = await root("PATCH", path, json=quota, headers=ANY)
            assert answer.json()["quota"] == {
                "cpu": 4.0,
                "memory": 2**33,
                "gpus": 0,
                "storage": None,
            }

    async def test_an_invited_person_sees_it_and_another_does_not(self):
        async with serving() as server:
            ada, bob, eve = (server.person(it) for it in ("ada", "bob", "eve"))
            made = await project(ada)
            path = f"/v1/projects/{made['id']}"
            assert (await bob("GET", path)).status_code == 404
            said = {"user": "BOB@example.org", "role": "viewer"}
            assert (await ada("POST", f"{path}/members", json=said)).status_code == 201
            assert (await bob("GET", path)).json()["my_role"] == "viewer"
            assert names(await bob("GET", "/v1/projects")) == ["demo"]
            assert (await eve("GET", path)).status_code == 404
            assert names(await eve("GET", "/v1/projects")) == []

    async def test_a_lost_update_is_refused(self):
        async with serving() as server:
            ada = server.person("ada")
            made = await project(ada)
            path = f"/v1/projects/{made['id']}"
            seen = {"If-Match": (await ada("GET", path)).headers["ETag"]}
            first = await ada("PATCH", path, json={"description": "one"}, headers=seen)
            assert first.status_code == 200
            second = await ada("PATCH", path, json={"description": "two"}, headers=seen)
            assert second.status_code == 412
            assert (await ada("DELETE", path, headers=seen)).status_code == 412
            assert (await ada("PATCH", path, json={"description": "x"})).status_code == 428
            again = {"If-Match": first.headers["ETag"]}
            assert (await ada("DELETE", path, headers=again)).status_code == 204

    async def test_what_is_left_out_of_a_patch_stays(self):
        async with serving() as server:
            ada = server.person("ada")
            made = await project(ada, description="What for.")
            path = f"/v1/projects/{made['id']}"
            answer = await ada("PATCH", path, json={"name": "other"}, headers=ANY)
            assert (answer.json()["name"], answer.json()["description"]) == ("other", "What for.")
            refusal = await ada("PATCH", path, json={"name": None}, headers=ANY)
            assert refusal.status_code == 422

    async def test_the_last_owner_stays(self):
        async with serving() as server:
            ada, bob = server.person("ada"), server.person("bob")
            made = await project(ada)
            members = f"/v1/projects/{made['id']}/members"
            adas, bobs = (await me(ada))["id"], (await me(bob))["id"]
            assert (await ada("DELETE", f"{members}/{adas}")).status_code == 409
            viewer = {"role": "viewer"}
            assert (await ada("PUT", f"{members}/{adas}", json=viewer)).status_code == 409
            await ada("POST", members, json={"user": "bob", "role": "owner"})
            assert (await ada("PUT", f"{members}/{adas}", json=viewer)).status_code == 200
            assert (await bob("DELETE", f"{members}/{bobs}")).status_code == 409

    async def test_two_owners_who_leave_at_once_do_not_both_go(self):
        async with serving() as server:
            ada, bob = server.person("ada"), server.person("bob")
            made = await project(ada)
            members = f"/v1/projects/{made['id']}/members"
            adas, bobs = (await me(ada))["id"], (await me(bob))["id"]
            await ada("POST", members, json={"user": "bob", "role": "owner"})
            gone = await asyncio.gather(
                ada("DELETE", f"{members}/{adas}"), bob("DELETE", f"{members}/{bobs}")
            )
            assert sorted(it.status_code for it in gone) == [204, 409]

    async def test_anyone_may_go_but_not_send_others_away(self):
        async with serving() as server:
            ada, bob = server.person("ada"), server.person("bob")
            made = await project(ada)
            members = f"/v1/projects/{made['id']}/members"
            await ada("POST", members, json={"user": "bob", "role": "viewer"})
            adas, bobs = (await me(ada))["id"], (await me(bob))["id"]
            assert (await bob("DELETE", f"{members}/{adas}")).status_code == 403
            assert (await bob("DELETE", f"{members}/{bobs}")).status_code == 204
            assert (await ada("DELETE", f"{members}/{bobs}")).status_code == 404
            assert (await ada("PUT", f"{members}/x", json={"role": "owner"})).status_code == 404

    async def test_a_list_is_read_in_parts_in_any_order(self):
        async with serving() as server:
            ada = server.person("ada")
            for name in ("ccc", "aaa", "eee", "bbb", "ddd"):
                await project(ada, name)
            for sort, wanted in (
                ("name", ["aaa", "bbb", "ccc", "ddd", "eee"]),
                ("-name", ["eee", "ddd", "ccc", "bbb", "aaa"]),
                ("created", ["ccc", "aaa", "eee", "bbb", "ddd"]),
                ("-updated", ["ddd", "bbb", "eee", "aaa", "ccc"]),
            ):
                found, cursor = [], ""
                while True:
                    page = await ada("GET", f"/v1/projects?limit=2&sort={sort}{cursor}")
                    assert page.json()["total"] == 5
                    found += names(page)
                    if page.json()["next"] is None:
                        break
                    cursor = f"&cursor={page.json()['next']}"
                assert found == wanted
            for wrong in ("limit=0", "limit=201", "sort=quota", "cursor=x"):
                assert (await ada("GET", f"/v1/projects?{wrong}")).status_code == 422, wrong

    async def test_a_list_is_filtered(self):
        async with serving() as server:
            root = server.admin()
            science = await organization(root)
            await project(root, "demo", organization=science["id"])
            await project(root, "other", description="A DEMO of another.")
            assert names(await root("GET", "/v1/projects?q=demo")) == ["demo", "other"]
            found = await root("GET", f"/v1/projects?organization={science['id']}")
            assert names(found) == ["demo"]
            assert names(await root("GET", "/v1/projects?organization=none")) == []

    async def test_what_is_known_needs_no_answer(self):
        async with serving() as server:
            ada = server.person("ada")
            made = await project(ada)
            for path in (f"/v1/projects/{made['id']}", "/v1/projects", "/v1/organizations"):
                first = await ada("GET", path)
                known = {"If-None-Match": first.headers["ETag"]}
                again = await ada("GET", path, headers=known)
                assert (again.status_code, again.content) == (304, b"")
                await project(ada, f"x{len(path)}")
                listed = await ada("GET", path, headers=known)
                assert listed.status_code == (304 if "projects/" in path else 200)

    async def test_every_server_answers_with_what_any_has_acknowledged(self):
        world = World()
        async with (
            world.mongodb.serve() as url,
            serving(world, url) as one,
            serving(world, url) as other,
        ):
            identifier = world.keycloak.person("ada")
            here, there = one.client(identifier), other.client(identifier)
            made = await project(here)
            path = f"/v1/projects/{made['id']}"
            for number in range(20):
                said = {"description": f"It is {number}."}
                assert (await here("PATCH", path, json=said, headers=ANY)).status_code == 200
                assert (await there("GET", path)).json()["description"] == said["description"]
                (listed,) = (await there("GET", "/v1/projects")).json()["items"]
                assert listed["description"] == said["description"]
                here, there = there, here

    async def test_what_is_kept_is_answered_without_asking_the_database_for_it(self):
        async with serving() as server:
            ada = server.person("ada")
            made = await project(ada)
            path = f"/v1/projects/{made['id']}"
            first = await ada("GET", path)
            server.world.mongodb.commands.clear()
            again = await ada("GET", path)
            assert again.content == first.content
            assert server.world.mongodb.commands == ["find platform"]

    async def test_a_role_that_keycloak_takes_away_is_gone_with_the_next_token(self):
        async with serving() as server:
            made = await project(server.person("ada"))
            root = server.world.keycloak.person("root")
            path = f"/v1/projects/{made['id']}"
            admin = server.client(root, roles=("platform-admin",))
            assert (await admin("GET", path)).status_code == 200
            assert (await server.client(root)("GET", path)).status_code == 404


class TestOnce:
    async def test_a_request_that_comes_again_is_answered_as_the_first_was(self):
        async with serving() as server:
            ada = server.person("ada")
            said = {"name": "demo", "organization": "default"}
            key = {"Idempotency-Key": "k-1"}
            first = await ada("POST", "/v1/projects", json=said, headers=key)
            again = await ada("POST", "/v1/projects", json=said, headers=key)
            assert (first.status_code, again.status_code) == (201, 201)
            assert again.content == first.content
            assert again.headers["ETag"] == first.headers["ETag"]
            assert again.headers["Idempotency-Replayed"] == "true"
            assert names(await ada("GET", "/v1/projects")) == ["demo"]

    async def test_another_request_with_the_same_key_is_refused(self):
        async with serving() as server:
            ada, key = server.person("ada"), {"Idempotency-Key": "k-1"}
            said = {"name": "demo", "organization": "default"}
            await ada("POST", "/v1/projects", json=said, headers=key)
            said["name"] = "other"
            refusal = await ada("POST", "/v1/projects", json=said, headers=key)
            assert refusal.status_code == 409

    async def test_of_many_at_once_on_several_servers_one_is_done(self):
        world = World()
        async with (
            world.mongodb.serve() as url,
            serving(world, url) as one,
            serving(world, url) as other,
        ):
            identifier = world.keycloak.person("ada")
            clients = [one.client(identifier), other.client(identifier)] * 4
            await me(clients[0])
            said, key = {"name": "demo", "organization": "default"}, {"Idempotency-Key": "k"}
            answers = await asyncio.gather(
                *(it("POST", "/v1/projects", json=said, headers=key) for it in clients)
            )
            made = [it for it in answers if it.status_code == 201]
            assert made
            assert len({it.content for it in made}) == 1
            assert all(it.headers["Retry-After"] for it in answers if it.status_code == 409)
            assert len(world.mongodb.documents("projects")) == 1

    async def test_keys_of_different_people_have_nothing_to_do_with_each_other(self):
        async with serving() as server:
            key = {"Idempotency-Key": "k"}
            for name in ("ada", "bob"):
                said = {"name": name, "organization": "default"}
                client = server.person(name)
                answer = await client("POST", "/v1/projects", json=said, headers=key)
                assert answer.json()["name"] == name

    async def test_a_refusal_is_not_kept(self):
        async with serving() as server:
            ada, key = server.person("ada"), {"Idempotency-Key": "k"}
            taken = await project(ada)
            said = {"name": "demo", "organization": "default"}
            refusal = await ada("POST", "/v1/projects", json=said, headers=key)
            assert refusal.status_code == 409
            await ada("DELETE", f"/v1/projects/{taken['id']}", headers=ANY)
            again = await ada("POST", "/v1/projects", json=said, headers=key)
            assert again.status_code == 201

    @pytest.mark.parametrize("lost", ["insert projects", "insert audit", "update platform"])
    async def test_a_server_that_goes_away_half_way_makes_no_second_one(self, lost):
        async with serving() as server:
            ada, key = server.person("ada"), {"Idempotency-Key": "k"}
            await me(ada)
            said = {"name": "demo", "organization": "default"}

            def before(command: str) -> None:
                if command == lost:
                    raise Gone

            server.world.mongodb.before = before
            first = await ada("POST", "/v1/projects", json=said, headers=key)
            assert first.status_code == 503
            server.world.mongodb.before = lambda command: None
            server.world.mongodb.collections["once"].clear()
            for it in server.world.mongodb.documents("journal"):
                it["entry"]["time"] = it["entry"]["time"].replace(year=2020)
            again = await ada("POST", "/v1/projects", json=said, headers=key)
            assert again.status_code == 201
            assert len(server.world.mongodb.documents("projects")) == 1


class TestExperiments:
    async def test_they_are_those_with_the_projects_tag_or_name(self):
        async with serving() as server:
            ada, mlflow = server.person("ada"), server.world.mlflow
            made, other = await project(ada), await project(ada, "other")
            path = f"/v1/projects/{made['id']}/experiments"
            answer = await ada("POST", path, json={"name": "tuning"})
            assert answer.status_code == 201
            assert mlflow.experiments["1"]["name"] == "default/demo/tuning"
            logged = mlflow.experiment("default/demo/logged")
            mlflow.experiment("default/demo/foreign", katonic_project=other["id"])
            mlflow.experiment("default/demo2/x")
            mlflow.experiment("Default")
            mlflow.run(logged, "one", loss=[2, 1])
            mlflow.run(logged, "two", loss=[3, 2], accuracy=[0.5])
            found = (await ada("GET", path)).json()
            assert [(it["name"], it["runs"]) for it in found["items"]] == [
                ("logged", 2),
                ("tuning", 0),
            ]
            assert (await ada("POST", path, json={"name": "tuning"})).status_code == 409
            assert (await ada("POST", path, json={"name": "a/b"})).status_code == 422
            actions = [it["action"] for it in server.world.mongodb.documents("audit")]
            assert actions.count("experiment.create") == 1

    async def test_runs_and_a_metric_over_them(self):
        async with serving() as server:
            ada, mlflow = server.person("ada"), server.world.mlflow
            made = await project(ada)
            logged = mlflow.experiment("default/demo/logged")
            mlflow.run(logged, "one", loss=[2.0, float("nan"), 1.0])
            mlflow.run(logged, "two", loss=[3, 2], accuracy=[0.5])
            path = f"/v1/projects/{made['id']}"
            first = (await ada("GET", f"{path}/runs?limit=1")).json()
            assert names_of(first) == ["two"]
            assert first["items"][0]["metrics"] == {"loss": 2, "accuracy": 0.5}
            rest = (await ada("GET", f"{path}/runs?limit=1&cursor={first['next']}")).json()
            assert (names_of(rest), rest["next"]) == (["one"], None)
            metrics = (await ada("GET", f"{path}/metrics?key=loss")).json()
            assert metrics["keys"] == ["accuracy", "loss"]
            curves = {it["name"]: [point[:2] for point in it["points"]] for it in metrics["runs"]}
            assert curves == {"two": [[0, 3.0], [1, 2.0]], "one": [[0, 2.0], [2, 1.0]]}
            assert (await ada("GET", f"{path}/metrics")).json()["key"] == "accuracy"
            assert (await ada("GET", f"{path}/runs?experiment=99")).status_code == 404
            for wrong in ("x", "null", "bnVsbA", "W10", "7"):
                assert (await ada("GET", f"{path}/runs?cursor={wrong}")).status_code == 422

    async def test_without_mlflow_the_operator_is_told_what_to_do(self):
        async with serving(experiments_url=None) as server:
            ada = server.person("ada")
            made = await project(ada)
            for what in ("experiments", "runs", "metrics"):
                refusal = await ada("GET", f"/v1/projects/{made['id']}/{what}")
                assert refusal.status_code == 503
                assert "relate MLflow" in refusal.json()["detail"]

    async def test_a_deleted_project_takes_its_experiments_along(self):
        async with serving() as server:
            ada, mlflow = server.person("ada"), server.world.mlflow
            made = await project(ada)
            mlflow.experiment("default/demo/logged")
            await ada("DELETE", f"/v1/projects/{made['id']}", headers=ANY)
            backend = server.backend
            await leftovers.clear(backend.store, backend.files, backend.experiments)
            assert mlflow.experiments["1"]["lifecycle_stage"] == "deleted"
            assert not server.world.mongodb.documents("leftovers")


def names_of(page: dict[str, Any]) -> list[str]:
    return [it["name"] for it in page["items"]]


class TestAudit:
    async def test_each_sees_what_they_may(self):
        async with serving() as server:
            root, ada, bob = server.admin(), server.person("ada"), server.person("bob")
            science = await organization(root)
            path = f"/v1/organizations/{science['id']}/members"
            await root("PUT", f"{path}/{(await me(ada))['id']}", json={"role": "admin"})
            mine = await project(ada, organization=science["id"])
            await project(bob)

            async def actions(client: Client, query: str = "") -> list[str]:
                found = await client("GET", f"/v1/audit{query}")
                return [it["action"] for it in found.json()["items"]]

            assert await actions(ada) == [
                "project.create",
                "organization.set-member",
                "organization.create",
            ]
            assert (await actions(root)).count("project.create") == 2
            assert await actions(ada, f"?project={mine['id']}") == ["project.create"]
            assert await actions(root, "?actor=bob&action=project.create") == ["project.create"]
            assert (await bob("GET", "/v1/audit")).status_code == 403
            assert (await bob("GET", f"/v1/audit?project={mine['id']}")).status_code == 404
            refusal = await bob("GET", "/v1/audit?organization=default")
            assert refusal.status_code == 403

    async def test_no_secret_is_in_it(self):
        async with serving() as server:
            ada = server.person("ada")
            await project(ada)
            text = str(server.world.mongodb.documents("audit"))
            assert "Bearer" not in text
            assert "s3cret" not in text

    async def test_old_entries_go(self):
        async with serving() as server:
            await me(server.person("ada"))
            (entry,) = server.world.mongodb.documents("audit")
            entry["time"] = entry["time"].replace(year=2020)
            await server.backend.store.expire(365)
            assert not server.world.mongodb.documents("audit")


class TestServices:
    TILE = {
        "name": "mlflow",
        "title": "Experiments",
        "description": "Track runs.",
        "icon": "flask",
        "url": "https://katonic.localhost/mlflow",
        "health": "http://up/health",
    }

    async def test_the_charm_tells_them_and_every_server_looks_at_them(self):
        world = World(healthy={"up": 200, "ill": 500})
        async with (
            world.mongodb.serve() as url,
            serving(world, url) as one,
            serving(world, url) as other,
        ):
            tiles = [
                self.TILE,
                self.TILE | {"name": "ill", "title": "Ill", "health": "http://ill/"},
                self.TILE | {"name": "gone", "title": "Gone", "health": "http://gone/"},
                self.TILE | {"name": "mute", "title": "Mute", "health": None},
            ]
            operator = {"Authorization": "Bearer 0perator"}
            told = await one.http.put(
                "/operator/services", json={"items": tiles}, headers=operator
            )
            assert told.status_code == 204
            await other.backend.services.look()
            for server in (one, other):
                found = (await server.person("ada")("GET", "/v1/services")).json()["items"]
                assert [(it["name"], it["health"]) for it in found] == [
                    ("mlflow", "up"),
                    ("gone", "down"),
                    ("ill", "down"),
                    ("mute", "unknown"),
                ]
                assert found[2]["detail"] == "It answers 500."
            asked = await one.http.get("/operator/services", headers=operator)
            assert asked.json()["items"] == tiles

    async def test_nobody_else_tells_them(self):
        async with serving() as server:
            token = server.world.keycloak.token(server.world.keycloak.person("root"))
            for given in ("", "Bearer ", f"Bearer {token}", "Bearer 0perato"):
                headers = {"Authorization": given}
                for method in ("GET", "PUT"):
                    answer = await server.http.request(
                        method, "/operator/services", json={"items": []}, headers=headers
                    )
                    assert answer.status_code == 401


class TestEdge:
    async def test_every_error_is_a_problem(self):
        async with serving() as server:
            ada = server.person("ada")
            for method, path, status in (
                ("GET", "/v1/nothing", 404),
                ("GET", "/nothing", 404),
                ("PUT", "/v1/me", 405),
                ("GET", "/v1/projects/x", 404),
            ):
                answer = await ada(method, path)
                assert answer.status_code == status
                assert answer.headers["Content-Type"] == "application/problem+json"
                said = answer.json()
                assert (said["status"], said["instance"]) == (status, path)
                assert said["title"]
                assert said["detail"]

    async def test_too_large_a_request_is_refused(self):
        async with serving() as server:
            ada = server.person("ada")
            answer = await ada("POST", "/v1/projects", content=b"x" * 300_000)
            assert answer.status_code == 413

            async def parts() -> AsyncIterator[bytes]:
                yield b"{}"

            answer = await ada("POST", "/v1/projects", content=parts())
            assert answer.status_code == 411

    async def test_a_request_keeps_its_id(self):
        async with serving() as server:
            given = await server.http.get("/health", headers={"X-Request-Id": "abc-1"})
            assert given.headers["X-Request-Id"] == "abc-1"
            forged = await server.http.get("/health", headers={"X-Request-Id": "a b\tc"})
            assert forged.headers["X-Request-Id"] not in ("", "a b\tc")

    async def test_while_the_database_is_away_it_says_so_and_is_not_ready(self):
        world = World()
        async with contextlib.AsyncExitStack() as stack:
            database = contextlib.AsyncExitStack()
            url = await database.enter_async_context(world.mongodb.serve())
            fast = f"{url}?serverSelectionTimeoutMS=300&timeoutMS=500"
            server: Server = await stack.enter_async_context(serving(world, fast))
            ada = server.person("ada")
            await project(ada)
            assert (await ada("GET", "/ready")).status_code == 200
            await database.aclose()
            answer = await ada("GET", "/v1/projects")
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert "database" in answer.json()["detail"]
            ready = await ada("GET", "/ready")
            assert (ready.status_code, ready.text) == (503, "the database does not answer\n")
            assert (await ada("GET", "/health")).status_code == 200

    async def test_it_is_not_ready_before_the_database_is_migrated(self):
        async with serving() as server:
            server.world.mongodb.collections["platform"].clear()
            answer = await server.http.get("/ready")
            assert (answer.status_code, answer.text) == (
                503,
                "waiting for the database's migration\n",
            )

    async def test_its_metrics_count_requests_by_route(self):
        async with serving() as server:
            ada = server.person("ada")
            made = await project(ada)
            for _ in range(2):
                await ada("GET", f"/v1/projects/{made['id']}")
            text = (await server.http.get("/metrics")).text
            assert 'route="/v1/projects/{project_id}",status="200"' in text
            assert made["id"] not in text

    async def test_its_openapi_tells_each_errors_shape_and_how_one_signs_in(self):
        async with serving() as server:
            said = (await server.http.get("/openapi.json")).json()
            for path, operations in said["paths"].items():
                for operation in operations.values():
                    if path.startswith("/v1/"):
                        assert operation["security"] == [{"token": []}]
                        assert {"401", "403", "503"} <= operation["responses"].keys()
                    for code, answer in operation["responses"].items():
                        if code.startswith("4"):
                            assert [*answer["content"]] == ["application/problem+json"]
            assert "/operator/services" not in said["paths"]
            assert (await server.http.get("/docs")).status_code == 200
