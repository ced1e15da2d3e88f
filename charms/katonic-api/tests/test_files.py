"""The files of projects: whole or not at all, each project's apart."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from api_server import Client, Server, serving
from katonic_api import files, leftovers
from katonic_api.settings import Bucket
from played_s3 import S3

pytestmark = pytest.mark.anyio


@dataclass
class Lab:
    """A server with a bucket, a project in it and those who work on it."""

    s3: S3
    server: Server
    ada: Client
    project: str

    @property
    def path(self) -> str:
        return f"/v1/projects/{self.project}/files"

    def actions(self) -> list[str]:
        found = [it["action"] for it in self.server.world.mongodb.documents("audit")]
        return [it for it in found if it.startswith("file.")]


@contextlib.asynccontextmanager
async def lab(**more: Any) -> AsyncIterator[Lab]:
    s3 = S3()
    async with s3.serve() as url:
        bucket = Bucket.model_validate(
            {
                "KATONIC_BUCKET": "files",
                "KATONIC_BUCKET_STYLE": "path",
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "s3cret",
            }
        )
        async with serving(bucket=bucket, **more) as server:
            ada = server.person("ada")
            said = {"name": "demo", "organization": "default"}
            made = await ada("POST", "/v1/projects", json=said)
            yield Lab(s3, server, ada, made.json()["id"])


async def test_a_file_comes_back_as_it_went():
    async with lab() as it:
        content = bytes(range(256)) * 10
        kept = await it.ada("PUT", f"{it.path}/a b/ü%23.bin", content=content)
        assert kept.status_code == 201
        said = kept.json()
        assert (said["path"], said["name"], said["size"]) == ("a b/ü#.bin", "ü#.bin", 2560)
        assert it.s3.objects == {f"projects/{it.project}/a b/ü#.bin": content}
        read = await it.ada("GET", f"{it.path}/a b/ü%23.bin")
        assert read.content == content
        assert read.headers["Content-Type"] == "application/octet-stream"
        assert read.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%BC%23.bin"
        assert read.headers["X-Content-Type-Options"] == "nosniff"
        assert it.actions() == ["file.write"]


async def test_an_empty_file_is_one_too():
    async with lab() as it:
        assert (await it.ada("PUT", f"{it.path}/empty", content=b"")).status_code == 201
        assert (await it.ada("GET", f"{it.path}/empty")).content == b""


@pytest.mark.parametrize("size", [999, 1000, 1001, 3500])
async def test_a_large_file_goes_in_parts(size, monkeypatch):
    monkeypatch.setattr(files, "_PART", 1000)
    async with lab() as it:
        content = b"0123456789" * 350
        kept = await it.ada("PUT", f"{it.path}/large", content=content[:size])
        assert kept.json()["size"] == size
        assert (await it.ada("GET", f"{it.path}/large")).content == content[:size]
        assert not it.s3.uploads


async def test_a_range_is_a_part_of_it():
    async with lab() as it:
        await it.ada("PUT", f"{it.path}/a", content=b"0123456789")
        for span, content, shown in (
            ("bytes=2-4", b"234", "bytes 2-4/10"),
            ("bytes=8-", b"89", "bytes 8-9/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
        ):
            part = await it.ada("GET", f"{it.path}/a", headers={"Range": span})
            assert (part.status_code, part.content) == (206, content)
            assert part.headers["Content-Range"] == shown
        beyond = await it.ada("GET", f"{it.path}/a", headers={"Range": "bytes=99-"})
        assert beyond.status_code == 416
        wrong = await it.ada("GET", f"{it.path}/a", headers={"Range": "lines=1-2"})
        assert wrong.status_code == 422


async def test_folders_are_listed_in_parts():
    async with lab() as it:
        for path in ("b/1", "b/2", "a", "c/d/e", "z"):
            await it.ada("PUT", f"{it.path}/{path}", content=b"x")

        async def listed(query: str) -> tuple[list[tuple[str, str]], str | None]:
            page = (await it.ada("GET", f"{it.path}?{query}")).json()
            return [(item["path"], item["kind"]) for item in page["items"]], page["next"]

        everything = {("a", "file"), ("b", "folder"), ("c", "folder"), ("z", "file")}
        assert set((await listed(""))[0]) == everything
        first, cursor = await listed("limit=2")
        rest, end = await listed(f"limit=2&cursor={cursor}")
        assert ({*first, *rest}, end) == (everything, None)
        for wrong in ("x", "null", "bnVsbA"):
            answer = await it.ada("GET", f"{it.path}?cursor={wrong}")
            assert answer.status_code == 422, wrong
        for prefix in ("b", "b/"):
            assert (await listed(f"prefix={prefix}"))[0] == [("b/1", "file"), ("b/2", "file")]
        assert (await listed("prefix=c"))[0] == [("c/d", "folder")]


@pytest.mark.parametrize("path", ["a//b", "a/%2e%2e/b", "a/%00", "a/", "%2e%2e", "a/%2e"])
async def test_no_path_leads_out_of_the_project(path):
    async with lab() as it:
        for method in ("PUT", "GET", "DELETE"):
            answer = await it.ada(method, f"{it.path}/{path}")
            assert answer.status_code == 422, method
        assert it.s3.objects == {}
        assert (await it.ada("GET", f"{it.path}?prefix=../x")).status_code == 422


async def test_each_sees_the_files_of_their_projects_alone():
    async with lab() as it:
        await it.ada("PUT", f"{it.path}/a", content=b"x")
        eve, bob = it.server.person("eve"), it.server.person("bob")
        for method in ("PUT", "GET", "DELETE"):
            assert (await eve(method, f"{it.path}/a")).status_code == 404
        assert (await eve("GET", it.path)).status_code == 404
        members = f"/v1/projects/{it.project}/members"
        await it.ada("POST", members, json={"user": "bob", "role": "viewer"})
        assert (await bob("GET", f"{it.path}/a")).status_code == 200
        assert (await bob("PUT", f"{it.path}/a", content=b"y")).status_code == 403
        assert (await bob("DELETE", f"{it.path}/a")).status_code == 403


async def test_what_is_deleted_is_gone():
    async with lab() as it:
        await it.ada("PUT", f"{it.path}/a", content=b"x")
        assert (await it.ada("DELETE", f"{it.path}/a")).status_code == 204
        assert (await it.ada("DELETE", f"{it.path}/a")).status_code == 404
        assert (await it.ada("GET", f"{it.path}/a")).status_code == 404
        assert it.actions() == ["file.write", "file.delete"]


async def test_too_large_a_file_is_refused_before_it_comes():
    async with lab(upload_limit=10) as it:
        assert (await it.ada("PUT", f"{it.path}/a", content=b"x" * 11)).status_code == 413

        async def parts() -> AsyncIterator[bytes]:
            yield b"x"

        assert (await it.ada("PUT", f"{it.path}/a", content=parts())).status_code == 411


@pytest.mark.parametrize("fails", ["partNumber=2", "uploads", "complete"])
async def test_an_upload_that_breaks_off_leaves_nothing(fails, monkeypatch):
    monkeypatch.setattr(files, "_PART", 1000)
    async with lab() as it:

        def before(method: str, query: str) -> None:
            complete = method == "POST" and "uploadId" in query
            if fails in query if fails != "complete" else complete:
                raise RuntimeError

        it.s3.before = before
        answer = await it.ada("PUT", f"{it.path}/a", content=b"x" * 2500)
        assert answer.status_code == 503
        assert (it.s3.objects, it.s3.uploads) == ({}, {})
        assert it.actions() == []


async def test_less_than_was_said_is_no_file():
    async with lab() as it:
        answer = await it.ada("PUT", f"{it.path}/a", content=b"x", headers={"Content-Length": "2"})
        assert answer.status_code == 400
        assert it.s3.objects == {}


async def test_a_deleted_project_takes_its_files_along_and_no_others():
    async with lab() as it:
        await it.ada("PUT", f"{it.path}/a/b", content=b"x")
        it.s3.objects["projects/other/a"] = b"y"
        await it.ada("DELETE", f"/v1/projects/{it.project}", headers={"If-Match": "*"})
        backend = it.server.backend
        await leftovers.clear(backend.store, backend.files, backend.experiments)
        assert it.s3.objects == {"projects/other/a": b"y"}


async def test_without_a_bucket_the_operator_is_told_what_to_do():
    async with serving() as server:
        ada = server.person("ada")
        said = {"name": "demo", "organization": "default"}
        made = (await ada("POST", "/v1/projects", json=said)).json()
        refusal = await ada("GET", f"/v1/projects/{made['id']}/files")
        assert refusal.status_code == 503
        assert "relate a bucket" in refusal.json()["detail"]
