"""A bucket as the server meets it, over HTTP: as much of S3 as the server uses."""

import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TIME = "2026-11-25T12:00:00.000Z"


class S3:
    """One bucket.

    Attributes:
        objects: What is in it, by key.
        uploads: The parts of uploads that are not complete.
        before: Called with each request's method and query; it may raise.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.before: Callable[[str, str], None] = lambda method, query: None

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yield the URL at which it answers for as long as the context lasts."""
        methods = ["GET", "PUT", "POST", "DELETE", "HEAD"]
        app = Starlette(routes=[Route("/files{key:path}", self.answer, methods=methods)])
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # pyright: ignore
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listening])
                while not server.started:
                    await anyio.sleep(0.01)
                yield f"http://127.0.0.1:{port}"
                server.should_exit = True

    async def answer(self, request: Request) -> Response:
        """Answer a request of the server's."""
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
        key, query = unquote(request.path_params["key"]).lstrip("/"), request.query_params
        self.before(request.method, str(query))
        body = await request.body()
        match request.method:
            case "PUT" if "uploadId" in query:
                self.uploads[query["uploadId"]][int(query["partNumber"])] = body
                return Response(headers={"ETag": _etag(body)})
            case "PUT":
                self.objects[key] = body
                return Response(headers={"ETag": _etag(body)})
            case "POST" if "uploads" in query:
                upload = f"upload-{len(self.uploads)}"
                self.uploads[upload] = {}
                return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
            case "POST" if "uploadId" in query:
                parts = self.uploads.pop(query["uploadId"])
                self.objects[key] = b"".join(parts[it] for it in sorted(parts))
                return _xml("CompleteMultipartUploadResult", f"<Key>{escape(key)}</Key>")
            case "POST" if "delete" in query:
                for it in ElementTree.fromstring(body).iter():
                    if it.tag.endswith("Key"):
                        del self.objects[str(it.text)]
                return _xml("DeleteResult", "")
            case "DELETE" if "uploadId" in query:
                del self.uploads[query["uploadId"]]
                return Response(status_code=204)
            case "DELETE":
                self.objects.pop(key, None)
                return Response(status_code=204)
            case "GET" if not key:
                return self._list(query)
        return self._read(request, key)

    def _read(self, request: Request, key: str) -> Response:
        if key not in self.objects:
            body = "<Error><Code>NoSuchKey</Code></Error>" if request.method == "GET" else ""
            return Response(body, 404, media_type="application/xml")
        body = self.objects[key]
        headers = {"ETag": _etag(body), "Last-Modified": formatdate(usegmt=True)}
        if span := request.headers.get("range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            start = int(first) if first else len(body) - int(last)
            end = min(int(last), len(body) - 1) if first and last else len(body) - 1
            if start >= len(body):
                body = "<Error><Code>InvalidRange</Code></Error>"
                return Response(body, 416, media_type="application/xml")
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            return Response(body[start : end + 1], 206, headers)
        return Response(body, 200, headers)

    def _list(self, query: QueryParams) -> Response:
        prefix, delimiter = query["prefix"], query.get("delimiter", "")
        start, most = query.get("continuation-token", ""), int(query.get("max-keys", 1000))
        seen: dict[str, str] = {}
        for key in sorted(it for it in self.objects if it.startswith(prefix)):
            head, cut, _ = key.removeprefix(prefix).partition(delimiter or "\0")
            if delimiter and cut:
                folder = f"{prefix}{head}{delimiter}"
                seen[folder] = (
                    f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
                )
            else:
                size = len(self.objects[key])
                seen[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
                    f"<LastModified>{TIME}</LastModified></Contents>"
                )
        names = [it for it in seen if it > start]
        content = "".join(seen[it] for it in names[:most])
        if len(names) > most:
            content += f"<NextContinuationToken>{escape(names[most - 1])}</NextContinuationToken>"
        return _xml("ListBucketResult", content)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _xml(name: str, content: str) -> Response:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return Response(f'<{name} xmlns="{space}">{content}</{name}>', media_type="application/xml")
