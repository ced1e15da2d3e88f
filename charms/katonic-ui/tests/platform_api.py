"""The platform's API as its contract says, in memory: as much as the pages can tell apart."""

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_NOW = datetime.now(UTC)
_READ = ["project.read", "project.read-members", "experiment.read", "file.read", "audit.read"]
_WORK = [*_READ, "experiment.create", "file.write", "file.delete"]
_OWN = [*_WORK, "project.update", "project.delete", "project.manage-members"]
_ALL = [*_OWN, "project.set-quota"]
_ORGANIZATION = ["organization.read", "organization.read-members", "project.create"]
_ADMINISTERS = [*_ORGANIZATION, "organization.update", "organization.manage-members"]
_PLATFORM = ["organization.create", "user.list", "user.update", "audit.read"]
RIGHTS = {None: [], "viewer": _READ, "contributor": _WORK, "owner": _OWN}


def ago(**passed: float) -> str:
    return (_NOW - timedelta(**passed)).isoformat().replace("+00:00", "Z")


class Refusal(Exception):  # noqa: N818
    """A problem."""

    def __init__(self, status: int, detail: str, errors: Any = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors


@dataclass
class PlatformApi:
    """What is kept, and who may what.

    Attributes:
        platform_admins: Who may everything.
        away: Which of "experiments" and "files" are not connected.
        silent: Whether it answers 503 to all.
        refused: Access tokens that it does not believe.
        asked: What it has been asked: method, path, headers.
    """

    platform_admins: set[str] = field(default_factory=lambda: {"root"})
    away: set[str] = field(default_factory=set)
    silent: bool = False
    refused: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    organizations: dict[str, dict[str, Any]] = field(default_factory=dict)
    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    services: list[dict[str, Any]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    signed_out: list[str] = field(default_factory=list)

    def user(self, username: str, name: str, **more: Any) -> dict[str, Any]:
        return self.users.setdefault(
            f"id-of-{username}",
            {
                "id": f"id-of-{username}",
                "username": username,
                "name": name,
                "email": f"{username}@mlops.example",
                "active": True,
                "created": ago(days=40),
                "last_seen": ago(minutes=3),
                **more,
            },
        )

    def organization(self, name: str, members: dict[str, str], description: str = "") -> None:
        self.organizations[name] = {
            "id": name,
            "name": name,
            "description": description,
            "roles": {f"id-of-{it}": role for it, role in members.items()},
            "created": ago(days=40),
            "updated": ago(days=3),
            "version": 1,
        }

    def project(
        self, name: str, members: dict[str, str], description: str = "", **more: Any
    ) -> dict[str, Any]:
        made = {
            "id": f"p-{name}",
            "name": name,
            "description": description,
            "organization": "default",
            "quota": {"cpu": None, "memory": None, "gpus": None, "storage": None},
            "roles": {f"id-of-{it}": role for it, role in members.items()},
            "created": ago(days=20),
            "updated": ago(hours=len(self.projects) * 7 + 0.5),
            "created_by": "id-of-ada",
            "version": 1,
            **more,
        }
        return self.projects.setdefault(made["id"], made)

    def note(self, username: str, action: str, kind: str, name: str, **details: Any) -> None:
        identifier = {"project": f"p-{name}", "user": f"id-of-{name}"}.get(kind, name)
        self.audit.append(
            {
                "id": f"a{len(self.audit)}",
                "time": ago(minutes=7 * len(self.audit) + 2),
                "actor": {"id": f"id-of-{username}", "username": username},
                "action": action,
                "entity": {"kind": kind, "id": identifier, "name": name},
                "organization": "default",
                "project": identifier if kind == "project" else None,
                "details": details,
            }
        )

    @property
    def application(self) -> Starlette:
        """Return what answers below /v1."""
        names = (
            ("GET", "/me", self._me),
            ("POST", "/me/sign-out-everywhere", self._sign_out_everywhere),
            ("GET", "/organizations", self._organizations),
            ("POST", "/organizations", self._create_organization),
            ("GET", "/organizations/{organization}", self._organization),
            ("PATCH", "/organizations/{organization}", self._update_organization),
            ("DELETE", "/organizations/{organization}", self._delete_organization),
            ("GET", "/organizations/{organization}/members", self._organization_members),
            ("POST", "/organizations/{organization}/members", self._add_to_organization),
            ("PUT", "/organizations/{organization}/members/{user}", self._put_in_organization),
            ("DELETE", "/organizations/{organization}/members/{user}", self._take_out),
            ("GET", "/projects", self._projects),
            ("POST", "/projects", self._create_project),
            ("GET", "/projects/{project}", self._project),
            ("PATCH", "/projects/{project}", self._update_project),
            ("DELETE", "/projects/{project}", self._delete_project),
            ("GET", "/projects/{project}/members", self._members),
            ("POST", "/projects/{project}/members", self._invite),
            ("PUT", "/projects/{project}/members/{user}", self._change_member),
            ("DELETE", "/projects/{project}/members/{user}", self._remove_member),
            ("GET", "/projects/{project}/experiments", self._experiments),
            ("POST", "/projects/{project}/experiments", self._create_experiment),
            ("GET", "/projects/{project}/runs", self._runs),
            ("GET", "/projects/{project}/metrics", self._metrics),
            ("GET", "/projects/{project}/files", self._files),
            ("GET", "/projects/{project}/files/{path:path}", self._download),
            ("PUT", "/projects/{project}/files/{path:path}", self._upload),
            ("DELETE", "/projects/{project}/files/{path:path}", self._delete_file),
            ("GET", "/users", self._users),
            ("GET", "/users/{user}", self._user),
            ("PATCH", "/users/{user}", self._update_user),
            ("GET", "/services", self._services),
            ("GET", "/audit", self._audit),
        )
        return Starlette(
            routes=[Route(f"/v1{p}", self._asked(e), methods=[m]) for m, p, e in names]
        )

    def _asked(self, endpoint: Any) -> Any:
        async def answer(request: Request) -> Response:
            self.asked.append((request.method, request.url.path, dict(request.headers)))
            try:
                if self.silent:
                    raise Refusal(503, "The database does not answer. Try again soon.")
                token = request.headers["authorization"].removeprefix("Bearer ")
                if token in self.refused:
                    raise Refusal(401, "The token is not valid.")
                claims = json.loads(jws.extract_compact(token.encode()).payload)
                caller = self.user(claims["preferred_username"], claims["name"])
                if not caller["active"]:
                    raise Refusal(403, "Your account is deactivated.")
                request.state.me = caller
                return await endpoint(request)
            except Refusal as reason:
                body = {"title": "No", "status": reason.status, "detail": reason.detail}
                if reason.errors:
                    body["errors"] = reason.errors
                return JSONResponse(body, reason.status, media_type="application/problem+json")

        return answer

    # --- who is who

    def _admin(self, request: Request) -> bool:
        return request.state.me["username"] in self.platform_admins

    def _role_in(self, request: Request, organization: str) -> str | None:
        return self.organizations[organization]["roles"].get(request.state.me["id"])

    async def _me(self, request: Request) -> Response:
        admin = self._admin(request)
        more = {"platform_admin": admin, "permissions": _PLATFORM if admin else []}
        return JSONResponse({**self._shown_user(request.state.me), **more})

    def _shown_user(self, user: dict[str, Any]) -> dict[str, Any]:
        mine = [
            {"id": it["id"], "name": it["name"], "role": role}
            for it in self.organizations.values()
            if (role := it["roles"].get(user["id"]))
        ]
        return {**user, "organizations": mine}

    async def _sign_out_everywhere(self, request: Request) -> Response:
        self.signed_out.append(request.state.me["username"])
        return Response(status_code=204)

    async def _users(self, request: Request) -> Response:
        mine = [it["roles"] for it in self.organizations.values()]
        if not self._admin(request) and not any(
            it.get(request.state.me["id"]) == "admin" for it in mine
        ):
            raise Refusal(403, "You lack the right user.list.")
        q, active = request.query_params.get("q", ""), request.query_params.get("active")
        found = [
            self._shown_user(it)
            for it in self.users.values()
            if q in it["username"] + it["name"] + it["email"]
            and active in (None, json.dumps(it["active"]))
        ]
        return self._list(request, found)

    async def _user(self, request: Request) -> Response:
        found = self._find(self.users, request.path_params["user"])
        return JSONResponse(self._shown_user(found))

    async def _update_user(self, request: Request) -> Response:
        if not self._admin(request):
            raise Refusal(403, "You lack the right user.update.")
        user = self._find(self.users, request.path_params["user"])
        user["active"] = (await request.json())["active"]
        return JSONResponse(self._shown_user(user))

    # --- organizations

    def _shown_organization(self, request: Request, it: dict[str, Any]) -> dict[str, Any]:
        role = it["roles"].get(request.state.me["id"])
        rights = {"member": _ORGANIZATION, "admin": [*_ADMINISTERS, "project.set-quota"], None: []}
        return {
            **{key: it[key] for key in ("id", "name", "description", "created", "updated")},
            "projects": sum(p["organization"] == it["id"] for p in self.projects.values()),
            "members": len(it["roles"]),
            "my_role": role,
            "permissions": [*_ADMINISTERS, "organization.delete", "project.set-quota"]
            if self._admin(request)
            else rights[role],
        }

    def _known_organization(self, request: Request) -> dict[str, Any]:
        found = self._find(self.organizations, request.path_params["organization"])
        if not self._shown_organization(request, found)["permissions"]:
            raise Refusal(404, "There is no such organization, or you may not see it.")
        return found

    async def _organizations(self, request: Request) -> Response:
        shown = [self._shown_organization(request, it) for it in self.organizations.values()]
        return self._list(request, [it for it in shown if it["permissions"]])

    async def _create_organization(self, request: Request) -> Response:
        said = await request.json()
        if said["name"] in self.organizations:
            raise Refusal(409, f"There is an organization {said['name']} already.")
        self.organization(said["name"], {}, said["description"])
        shown = self._shown_organization(request, self.organizations[said["name"]])
        return JSONResponse(shown, 201)

    async def _organization(self, request: Request) -> Response:
        found = self._known_organization(request)
        return self._tagged(found, self._shown_organization(request, found))

    async def _update_organization(self, request: Request) -> Response:
        found = self._known_organization(request)
        self._match(request, found)
        found.update(await request.json(), version=found["version"] + 1)
        return self._tagged(found, self._shown_organization(request, found))

    async def _delete_organization(self, request: Request) -> Response:
        found = self._known_organization(request)
        self._match(request, found)
        if self._shown_organization(request, found)["projects"]:
            raise Refusal(409, "It still has projects.")
        del self.organizations[found["id"]]
        return Response(status_code=204)

    async def _organization_members(self, request: Request) -> Response:
        return self._list(request, self._people(self._known_organization(request)))

    async def _add_to_organization(self, request: Request) -> Response:
        found, said = self._known_organization(request), await request.json()
        user = self._called(said["user"])
        if user["id"] in found["roles"]:
            raise Refusal(409, f"{user['username']} is a member already.")
        found["roles"][user["id"]] = said["role"]
        return JSONResponse({"user": user, "role": said["role"]}, 201)

    async def _put_in_organization(self, request: Request) -> Response:
        found = self._known_organization(request)
        user = self._find(self.users, request.path_params["user"])
        found["roles"][user["id"]] = (await request.json())["role"]
        return JSONResponse({"user": user, "role": found["roles"][user["id"]]})

    async def _take_out(self, request: Request) -> Response:
        found = self._known_organization(request)
        if list(found["roles"].values()).count("admin") == 1 and (
            found["roles"][request.path_params["user"]] == "admin"
        ):
            raise Refusal(409, "The last admin of an organization cannot go.")
        del found["roles"][request.path_params["user"]]
        return Response(status_code=204)

    # --- projects

    def _shown_project(self, request: Request, it: dict[str, Any]) -> dict[str, Any]:
        role = it["roles"].get(request.state.me["id"])
        admin = self._admin(request) or self._role_in(request, it["organization"]) == "admin"
        kept = ("id", "name", "description", "quota", "created", "updated", "created_by")
        return {
            **{key: it[key] for key in kept},
            "organization": {"id": it["organization"], "name": it["organization"]},
            "members": len(it["roles"]),
            "my_role": role,
            "permissions": _ALL if admin else RIGHTS[role],
        }

    def _known_project(self, request: Request, verb: str = "project.read") -> dict[str, Any]:
        found = self._find(self.projects, request.path_params["project"])
        permissions = self._shown_project(request, found)["permissions"]
        if not permissions:
            raise Refusal(404, "There is no such project, or you may not see it.")
        if verb not in permissions:
            raise Refusal(403, f"You lack the right {verb} in this project.")
        return found

    async def _projects(self, request: Request) -> Response:
        asked = request.query_params
        shown = [self._shown_project(request, it) for it in self.projects.values()]
        found = [
            it
            for it in shown
            if it["permissions"]
            and asked.get("q", "") in it["name"] + it["description"]
            and asked.get("organization", it["organization"]["id"]) == it["organization"]["id"]
        ]
        sort = asked.get("sort", "name")
        found.sort(key=lambda it: it[sort.lstrip("-")], reverse=sort.startswith("-"))
        return self._list(request, found)

    async def _create_project(self, request: Request) -> Response:
        said = await request.json()
        if not re.fullmatch("[a-z][a-z0-9-]{1,38}[a-z0-9]", said["name"]):
            wrong = {"loc": ["body", "name"], "msg": "String should match the pattern"}
            raise Refusal(422, "These values are not allowed: name.", [wrong])
        if f"p-{said['name']}" in self.projects:
            raise Refusal(409, f"There is a project {said['name']} in this organization already.")
        made = self.project(said["name"], {request.state.me["username"]: "owner"})
        made |= said
        return JSONResponse(self._shown_project(request, made), 201)

    async def _project(self, request: Request) -> Response:
        found = self._known_project(request)
        return self._tagged(found, self._shown_project(request, found))

    async def _update_project(self, request: Request) -> Response:
        found = self._known_project(request, "project.update")
        self._match(request, found)
        found.update(await request.json(), version=found["version"] + 1)
        return self._tagged(found, self._shown_project(request, found))

    async def _delete_project(self, request: Request) -> Response:
        found = self._known_project(request, "project.delete")
        self._match(request, found)
        del self.projects[found["id"]]
        return Response(status_code=204)

    async def _members(self, request: Request) -> Response:
        return self._list(request, self._people(self._known_project(request)))

    async def _invite(self, request: Request) -> Response:
        found = self._known_project(request, "project.manage-members")
        said = await request.json()
        user = self._called(said["user"])
        if user["id"] in found["roles"]:
            raise Refusal(409, f"{user['username']} is a member already.")
        found["roles"][user["id"]] = said["role"]
        return JSONResponse({"user": user, "role": said["role"]}, 201)

    async def _change_member(self, request: Request) -> Response:
        found = self._known_project(request, "project.manage-members")
        user, role = request.path_params["user"], (await request.json())["role"]
        self._keep_an_owner(found, user, role)
        found["roles"][user] = role
        return JSONResponse({"user": self.users[user], "role": role})

    async def _remove_member(self, request: Request) -> Response:
        found = self._known_project(request, "project.manage-members")
        self._keep_an_owner(found, request.path_params["user"], None)
        del found["roles"][request.path_params["user"]]
        return Response(status_code=204)

    def _keep_an_owner(self, project: dict[str, Any], user: str, role: str | None) -> None:
        owners = [it for it, its in project["roles"].items() if its == "owner"]
        if owners == [user] and role != "owner":
            raise Refusal(409, "The last owner of a project cannot go.")

    # --- experiments

    def _connected(self, name: str) -> None:
        if name in self.away:
            raise Refusal(503, f"{name.title()} are not connected to this platform yet.")

    async def _experiments(self, request: Request) -> Response:
        self._connected("experiments")
        self._known_project(request)
        return self._list(request, self.experiments)

    async def _create_experiment(self, request: Request) -> Response:
        self._known_project(request, "experiment.create")
        name = (await request.json())["name"]
        if any(it["name"] == name for it in self.experiments):
            raise Refusal(409, f"There is an experiment {name} already.")
        made = {"id": f"e{len(self.experiments)}", "name": name, "runs": 0, "updated": ago()}
        self.experiments.append(made)
        return JSONResponse(made, 201)

    async def _runs(self, request: Request) -> Response:
        self._known_project(request)
        wanted = request.query_params["experiment"]
        found = [it for it in self.runs if it["experiment"] == wanted]
        return self._list(request, [{k: v for k, v in it.items() if k != "of"} for it in found])

    async def _metrics(self, request: Request) -> Response:
        self._known_project(request)
        wanted = request.query_params["experiment"]
        found = [it for it in self.runs if it["experiment"] == wanted]
        keys = sorted({key for it in found for key in it["of"]})
        key = request.query_params.get("key") or next(iter(keys), None)
        runs = [
            {"id": it["id"], "name": it["name"], "points": it["of"].get(key, [])} for it in found
        ]
        return JSONResponse({"key": key, "keys": keys, "runs": runs})

    # --- files

    async def _files(self, request: Request) -> Response:
        self._connected("files")
        self._known_project(request)
        prefix = request.query_params.get("prefix", "")
        found: dict[str, dict[str, Any]] = {}
        for path, content in sorted(self.files.items()):
            if path.startswith(prefix):
                name, slash, _ = path.removeprefix(prefix).partition("/")
                kind = "folder" if slash else "file"
                size = None if slash else len(content)
                found[name] = {
                    "path": f"{prefix}{name}",
                    "name": name,
                    "kind": kind,
                    "size": size,
                    "modified": None if slash else ago(hours=5),
                }
        return self._list(request, sorted(found.values(), key=lambda it: it["kind"] != "folder"))

    async def _download(self, request: Request) -> Response:
        self._known_project(request)
        content = self._find(self.files, request.path_params["path"])
        if "range" in request.headers:
            first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            place = {"content-range": f"bytes {first}-{last}/{len(content)}"}
            return Response(content[first : last + 1], 206, place)
        return Response(content, media_type="text/html")

    async def _upload(self, request: Request) -> Response:
        self._known_project(request, "file.write")
        self.files[request.path_params["path"]] = await request.body()
        return JSONResponse({}, 201)

    async def _delete_file(self, request: Request) -> Response:
        self._known_project(request, "file.delete")
        self._find(self.files, request.path_params["path"])
        del self.files[request.path_params["path"]]
        return Response(status_code=204)

    # --- the rest

    async def _services(self, request: Request) -> Response:
        return self._list(request, self.services)

    async def _audit(self, request: Request) -> Response:
        asked = request.query_params
        mine = [it["roles"].get(request.state.me["id"]) for it in self.organizations.values()]
        if not asked.get("project") and not self._admin(request) and "admin" not in mine:
            raise Refusal(403, "You lack the right audit.read.")
        found = [
            it
            for it in self.audit
            if asked.get("project") in (None, it["entity"]["id"])
            and asked.get("actor", it["actor"]["username"]) == it["actor"]["username"]
            and asked.get("action", it["action"]) == it["action"]
        ]
        return self._list(request, found)

    def _called(self, name: str) -> Any:
        for it in self.users.values():
            if name in (it["username"], it["email"]):
                return it
        raise Refusal(404, f"Nobody is called {name}.")

    def _people(self, entity: dict[str, Any]) -> list[Any]:
        return [{"user": self.users[it], "role": role} for it, role in entity["roles"].items()]

    def _find(self, known: dict[str, Any], key: str) -> Any:
        if key not in known:
            raise Refusal(404, "There is nothing of this name.")
        return known[key]

    def _list(self, request: Request, found: list[Any]) -> Response:
        start = int(request.query_params.get("cursor", 0))
        end = start + int(request.query_params.get("limit", 50))
        more = str(end) if end < len(found) else None
        return JSONResponse({"items": found[start:end], "next": more, "total": len(found)})

    def _tagged(self, entity: dict[str, Any], shown: Any) -> Response:
        return JSONResponse(shown, headers={"etag": f'"{entity["version"]}-x"'})

    def _match(self, request: Request, entity: dict[str, Any]) -> None:
        if "if-match" not in request.headers:
            raise Refusal(428, "If-Match is missing.")
        if request.headers["if-match"] != f'"{entity["version"]}-x"':
            raise Refusal(412, "It has been changed meanwhile.")


def furnished() -> PlatformApi:
    """Return an API with people, projects and all that belongs to them.

    `root` is a platform admin, `olga` the admin of the organizations; of demand-forecast `ada` is
    an owner, `carl` a contributor and `vera` a viewer; `nina` is a member of no project.
    """
    api = PlatformApi()
    names = {
        "root": "Rosa Rooth",
        "olga": "Olga Ladyzhenskaya",
        "ada": "Ada Lovelace",
        "carl": "Carl Gauss",
        "vera": "Vera Rubin",
        "nina": "Nina Bari",
        "gone": "Georg Cantor",
    }
    for username, name in names.items():
        api.user(username, name)
    api.users["id-of-gone"] |= {"active": False, "last_seen": ago(days=30)}
    roles = dict.fromkeys(names, "member")
    api.organization("default", {**roles, "olga": "admin"}, "Everybody, from their first sign-in.")
    api.organization("research", {"olga": "admin", "ada": "member"}, "Long shots.")
    everybody = {"ada": "owner", "carl": "contributor", "vera": "viewer"}
    api.project(
        "demand-forecast",
        everybody,
        "Weekly demand of every shop, seven days ahead.",
        quota={"cpu": 8, "memory": 32 * 2**30, "gpus": 1, "storage": 200 * 2**30},
    )
    api.project("churn", {"ada": "owner", "carl": "viewer"}, "Who leaves, and when one can tell.")
    api.project("vision-defects", {"ada": "contributor"}, "Scratches on painted steel, by camera.")
    api.project("ranking", {"olga": "owner", "ada": "viewer"}, organization="research")
    _services(api)
    _history(api)
    _experiments(api)
    api.files |= {
        "README.md": b"# Demand forecast\n" * 40,
        "data/shops.csv": b"shop,city\n" * 2_000,
        "data/2026/week-46.parquet": b"\0" * 900_000,
        "notebooks/first look.ipynb": b"{}" * 9_000,
        "<b>bold</b>.txt": b"<script>alert(1)</script>",
    }
    return api


def _services(api: PlatformApi) -> None:
    for name, title, description, icon, health, detail in (
        (
            "mlflow",
            "Experiments",
            "Track runs, compare metrics, register models.",
            "flask",
            "up",
            "",
        ),
        ("files", "Files", "Buckets and objects of all projects.", "folder", "up", ""),
        (
            "keycloak",
            "Accounts",
            "Passwords, one-time passwords, sessions.",
            "account-key",
            "down",
            "connection refused",
        ),
        (
            "notebooks",
            "Notebooks",
            "Write and run code next to the data.",
            "unheard-of",
            "unknown",
            "",
        ),
    ):
        api.services.append(
            {
                "name": name,
                "title": title,
                "description": description,
                "icon": icon,
                "url": f"https://mlops.example/{name}",
                "health": health,
                "detail": detail,
                "checked": ago(seconds=20),
            }
        )


def _history(api: PlatformApi) -> None:
    api.note("ada", "project.update", "project", "demand-forecast", description="Weekly demand.")
    api.note("carl", "file.write", "project", "demand-forecast", path="data/shops.csv", size=9)
    api.note("ada", "project.add-member", "project", "demand-forecast", user="vera", role="viewer")
    api.note("olga", "project.create", "project", "ranking")
    api.note("root", "user.deactivate", "user", "gone")
    api.note("root", "organization.set-member", "user", "ada", organization="lab", role="admin")
    api.note("ada", "project.delete", "project", "old-one")
    api.note("nina", "user.sign-in", "user", "nina")
    for number in range(70):
        made = f"sweep-{number}"
        api.note("ada", "experiment.create", "project", "demand-forecast", experiment=made)
    api.note("ada", "something.unheard-of", "thing", "<b>")


def _experiments(api: PlatformApi) -> None:
    for number, name in enumerate(("gradient-boosting", "transformer", "untouched")):
        runs = (4, 2, 0)[number]
        api.experiments.append(
            {"id": f"e{number}", "name": name, "runs": runs, "updated": ago(hours=number + 1)}
        )
        for run in range(runs):
            rate = (0.1, 0.05, 0.02, 0.3)[run]
            loss = [
                [step, 0.2 + math.exp(-step * rate / 4) + 0.05 * math.sin(step * (run + 1)), 0]
                for step in range(0, 120, run + 1)
            ]
            api.runs.append(
                {
                    "id": f"e{number}r{run}",
                    "name": ("bold-crane-12", "calm-otter-7", "kind-ibis-3", "wild-newt-9")[run],
                    "experiment": f"e{number}",
                    "status": ("FINISHED", "FINISHED", "RUNNING", "FAILED")[run],
                    "started": ago(hours=run + 2),
                    "ended": None if run == 2 else ago(hours=run + 1.7),
                    "user": ("ada", "carl", "ada", "carl")[run],
                    "metrics": {"loss": loss[-1][1], "accuracy": 0.8 + run / 50},
                    "params": {"learning_rate": str(rate), "depth": str(6 + run)},
                    "of": {"loss": loss, "accuracy": [[0, 0.8 + run / 50, 0]]},
                }
            )
