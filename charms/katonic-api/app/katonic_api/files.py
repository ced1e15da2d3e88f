"""The projects' files, in a bucket, each under projects/<id of its project>/."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Literal

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict

from .pages import cursor_of, token_of
from .problems import Problem, Unavailable, not_found
from .settings import Bucket

_NONE = "Files are not connected to this platform yet: its operator has to relate a bucket."
_SILENT = "The storage of the files does not answer. Try again soon."

_PART = 8 * 2**20
"""Bytes of an upload that are in memory at a time; S3 takes at most 10,000 parts."""

_CHUNK = 256 * 2**10
_PASSED_ON = {
    "ContentLength": "Content-Length",
    "ContentRange": "Content-Range",
    "ETag": "ETag",
}


class File(BaseModel):
    """A file, or a folder, which is what files have before a slash in common."""

    model_config = ConfigDict(frozen=True)

    path: str
    name: str
    kind: Literal["file", "folder"]
    size: int
    modified: datetime | None


class WrongPathError(ValueError):
    """A path that cannot be a file's; the message is a sentence."""


def check(path: str) -> str:
    """Return the path of a file.

    Raises:
        WrongPathError: It cannot be one.
    """
    if not path.isprintable():
        raise WrongPathError("A path has no control characters.")
    if any(it in ("", ".", "..") for it in path.split("/")):
        raise WrongPathError("A path has no empty part, and none that is . or ..")
    if len(path.encode()) > 900:
        raise WrongPathError("A path has at most 900 bytes.")
    return path


def check_folder(prefix: str) -> str:
    """Return the path of a folder with a slash at its end, or nothing for the topmost.

    Raises:
        WrongPathError: It cannot be one.
    """
    return f"{check(prefix.removesuffix('/'))}/" if prefix else ""


class Files:
    """The bucket; None where there is none."""

    def __init__(self, bucket: Bucket | None) -> None:
        self._bucket, self._open, self._client = bucket, contextlib.AsyncExitStack(), None

    async def listed(
        self, project: str, folder: str, limit: int, cursor: str | None
    ) -> tuple[list[File], str | None]:
        """Return what is in a folder, folders first in each part, and where to go on."""
        root, token = self._key(project, ""), token_of(cursor)
        with self._failures():
            found = await (await self._s3()).list_objects_v2(
                Bucket=self._name,
                Prefix=f"{root}{folder}",
                Delimiter="/",
                MaxKeys=limit,
                **({"ContinuationToken": token} if token else {}),
            )
        folders = [it["Prefix"].removeprefix(root) for it in found.get("CommonPrefixes", [])]
        files = [it for it in found.get("Contents", []) if not it["Key"].endswith("/")]
        return [
            *(_file(it.rstrip("/"), "folder", 0, None) for it in folders),
            *(
                _file(it["Key"].removeprefix(root), "file", it["Size"], it["LastModified"])
                for it in files
            ),
        ], cursor_of(found.get("NextContinuationToken"))

    async def size(self, project: str, path: str) -> int:
        """Return how many bytes a file has.

        Raises:
            Problem: 404, there is none.
        """
        with self._failures():
            found = await (await self._s3()).head_object(
                Bucket=self._name, Key=self._key(project, path)
            )
            return found["ContentLength"]

    async def write(
        self,
        project: str,
        path: str,
        content: AsyncIterator[bytes],
        before: Callable[[], Awaitable[Any]],
    ) -> File:
        """Keep a file, the whole of it or nothing; `before` is done when all of it has come."""
        where = {"Bucket": self._name, "Key": self._key(project, path)}
        with self._failures():
            s3, size = await self._s3(), 0
            parts = _parts(content)
            first = await anext(parts, b"")
            if len(first) < _PART:
                size = len(first)
                await before()
                await s3.put_object(**where, Body=first)
            else:
                where["UploadId"] = (await s3.create_multipart_upload(**where))["UploadId"]
                done = []
                try:
                    part: bytes | None = first
                    while part:
                        number = len(done) + 1
                        sent = await s3.upload_part(**where, PartNumber=number, Body=part)
                        done.append({"PartNumber": number, "ETag": sent["ETag"]})
                        size += len(part)
                        part = await anext(parts, None)
                    await before()
                    await s3.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
                except BaseException:
                    await s3.abort_multipart_upload(**where)
                    raise
            found = await s3.head_object(Bucket=self._name, Key=self._key(project, path))
        return _file(path, "file", size, found["LastModified"])

    async def read(
        self, project: str, path: str, span: str | None
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Return status, headers and content of a file, or of a span of it ("bytes=0-99").

        Raises:
            Problem: 404, there is none; 416, it has no such span.
        """
        with self._failures():
            found = await (await self._s3()).get_object(
                Bucket=self._name,
                Key=self._key(project, path),
                **({"Range": span} if span else {}),
            )
        headers = {name: str(found[key]) for key, name in _PASSED_ON.items() if key in found}
        code = found["ResponseMetadata"]["HTTPStatusCode"]
        return code, headers, _chunks(found["Body"])

    async def delete(self, project: str, path: str) -> None:
        """Delete a file."""
        with self._failures():
            await (await self._s3()).delete_object(Bucket=self._name, Key=self._key(project, path))

    async def forget(self, project: str) -> None:
        """Delete all files of a project."""
        if self._bucket is None:
            return
        with self._failures():
            s3 = await self._s3()
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._name, Prefix=self._key(project, "")
            )
            async for page in pages:
                keys = [{"Key": it["Key"]} for it in page.get("Contents", [])]
                if keys:
                    await s3.delete_objects(Bucket=self._name, Delete={"Objects": keys})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._open.aclose()

    @property
    def _name(self) -> str:
        return self._bucket.name if self._bucket else ""

    def _key(self, project: str, path: str) -> str:
        folder = self._bucket.folder.strip("/") if self._bucket else ""
        return f"{folder}/projects/{project}/{path}".lstrip("/")

    async def _s3(self) -> Any:
        if self._bucket is None:
            raise Unavailable(_NONE)
        if self._client is None:
            creating = get_session().create_client(
                "s3",
                region_name=self._bucket.region or "us-east-1",
                endpoint_url=self._bucket.endpoint,
                verify=self._bucket.authorities,
                aws_access_key_id=self._bucket.key,
                aws_secret_access_key=self._bucket.secret,
                config=AioConfig(
                    connect_timeout=5,
                    read_timeout=60,
                    retries={"max_attempts": 2},
                    max_pool_connections=50,
                    s3={"addressing_style": self._bucket.style},
                ),
            )
            self._client = await self._open.enter_async_context(creating)
        return self._client

    @contextlib.contextmanager
    def _failures(self) -> Any:
        try:
            yield
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise not_found("file") from None
            if status == 400:
                raise Problem(422, "This cursor is not of this list.") from None
            if status == 416:
                raise Problem(416, "The file has no such range.") from None
            if error.response.get("Error", {}).get("Code") == "XMinioStorageFull":
                raise Problem(507, "The storage of the files is full.") from None
            raise Unavailable(_SILENT) from error
        except (BotoCoreError, OSError) as error:
            raise Unavailable(_SILENT) from error


def _file(
    path: str, kind: Literal["file", "folder"], size: int, modified: datetime | None
) -> File:
    name = path.rpartition("/")[2]
    return File(path=path, name=name, kind=kind, size=size, modified=modified)


async def _parts(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the content in parts of the same size, but for the last."""
    kept = bytearray()
    async for it in content:
        kept += it
        while len(kept) >= _PART:
            yield bytes(kept[:_PART])
            del kept[:_PART]
    if kept:
        yield bytes(kept)


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    async with body:
        async for it in body.iter_chunks(_CHUNK):
            yield it
