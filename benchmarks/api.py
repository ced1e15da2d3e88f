"""What the API costs: requests a second and latencies over a bare FastAPI handler's, in one run.

    python benchmarks/api.py [--ferretdb PATH] [--workers N]

Starts a FerretDB with 1,000 projects, the API on it, and a FastAPI application that answers with
the very same bytes whatever it is asked; asks both in turns for a page of the list of projects and
for one project, and prints each and the ratios. With --writes somebody changes a project five
times a second meanwhile, so that what is kept is not true for long.
"""

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
APP = ROOT / "charms/katonic-api/app"
sys.path[:0] = [str(APP), str(ROOT)]

import uvloop  # noqa: E402
from joserfc import jwt  # noqa: E402
from joserfc.jwk import KeySet, RSAKey  # noqa: E402
from katonic_api.entities import Member, Project  # noqa: E402
from katonic_api.settings import Settings  # noqa: E402
from katonic_api.store import Store  # noqa: E402
from load import load  # noqa: E402

PROJECTS, TURNS = 1000, 3
ISSUER = "https://katonic.localhost/auth/realms/platform"
USER = "11111111-2222-3333-4444-555555555555"

BARE = """
import os, uvicorn
from fastapi import FastAPI
from starlette.responses import Response
body = open(os.environ["BODY"], "rb").read()
app = FastAPI()
@app.get("/{path:path}")
async def constant(path: str) -> Response:
    return Response(body, media_type="application/json")
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", http="httptools",
            ws="none", log_config=None, access_log=False)
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as it:
        return it.getsockname()[1]


def ask(
    url: str, token: str = "", method: str = "GET", body: object = None, **headers: str
) -> bytes:
    """Return what a server answers."""
    data = json.dumps(body).encode() if body is not None else None
    more = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data, more, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


@contextlib.contextmanager
def program(*command: str, ready: str, **environment: str) -> Iterator[None]:
    """Run a program, from when it answers on."""
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                ask(ready)
                break
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def keys(key: RSAKey) -> Iterator[str]:
    """Serve the key by which tokens are verified, and yield where."""
    said = json.dumps(KeySet([key]).as_dict(private=False)).encode()

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/certs"
    server.shutdown()
    server.server_close()


def token_of(key: RSAKey) -> str:
    """Return a token that is good for an hour."""
    claims = {
        "iss": ISSUER,
        "aud": "katonic-api",
        "sub": USER,
        "exp": int(time.time()) + 3600,
        "preferred_username": "ada",
        "realm_access": {"roles": []},
    }
    return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)


async def fill(settings: Settings) -> str:
    """Put the projects into the database, and return the id of one."""
    store = Store(settings)
    async with store.client:
        projects = [
            Project(
                id=f"{number:032x}",
                version=1,
                name=f"project-{number:04}",
                description="What one does with it, in a sentence or two of the usual length.",
                organization="default",
                members=(Member(user=USER, role="owner"),),
                created_by=USER,
            )
            for number in range(PROJECTS)
        ]
        await store.of(Project).insert_many([it.document() for it in projects])
        await store.touch()
    return projects[PROJECTS // 2].id


def ferretdb(given: str | None) -> str:
    """Return the program, built by the sandbox if none is given."""
    if given:
        return given
    from sandbox import images
    from sandbox.cluster import home
    from sandbox.images.recipes import ferretdb as layer

    images.build(["ferretdb"], print)
    return str(layer.tree(home.cache()) / "usr/bin/ferretdb")


async def writes(api: int, project: str, token: str) -> None:
    """Change a project five times a second."""
    while True:
        url = f"http://127.0.0.1:{api}/v1/projects/{project}"
        body = {"description": f"It is {time.time()}."}
        await asyncio.to_thread(ask, url, token, "PATCH", body, **{"If-Match": "*"})
        await asyncio.sleep(0.2)


async def measure(api: int, bare: dict[str, int], paths: dict[str, str], token: str) -> None:
    """Ask both servers in turns, and print what they are like."""
    headers = {"Authorization": f"Bearer {token}"}
    for name, path in paths.items():
        await load("127.0.0.1", api, path, headers, 1)
        await load("127.0.0.1", bare[name], path, headers, 1)
        turns = [
            (
                await load("127.0.0.1", bare[name], path, headers),
                await load("127.0.0.1", api, path, headers),
            )
            for _ in range(TURNS)
        ]
        bare_turn, api_turn = sorted(turns, key=lambda it: it[1].rate / it[0].rate)[TURNS // 2]
        print(f"{name:13} bare {bare_turn}")
        print(f"{'':13} api  {api_turn}")
        print(f"{'':13} ratio {api_turn.rate / bare_turn.rate:.2f}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ferretdb", metavar="PATH")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--writes", action="store_true")
    given = parser.parse_args()
    key = RSAKey.generate_key(2048, {"kid": "k", "use": "sig", "alg": "RS256"})
    token = token_of(key)
    database_port, database_health, api = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        where = f"http://127.0.0.1:{database_health}/debug/livez"
        database = [
            ferretdb(given.ferretdb),
            "--handler=sqlite",
            f"--sqlite-url=file:{folder}/",
            f"--state-dir={folder}",
            f"--listen-addr=127.0.0.1:{database_port}",
            f"--debug-addr=127.0.0.1:{database_health}",
            "--telemetry=disable",
            "--log-level=error",
        ]
        stack.enter_context(program(*database, ready=where))
        settings = {
            "KATONIC_DATABASE_URL": f"mongodb://127.0.0.1:{database_port}/",
            "KATONIC_DATABASE": "benchmark",
            "KATONIC_ISSUER": ISSUER,
            "KATONIC_JWKS_URL": stack.enter_context(keys(key)),
            "KATONIC_TOKEN_URL": "http://127.0.0.1:1/realms/platform/token",
            "KATONIC_CLIENT_ID": "benchmark",
            "KATONIC_CLIENT_SECRET": "benchmark",
            "KATONIC_LOG_LEVEL": "warning",
            "KATONIC_WORKERS": str(given.workers),
            "KATONIC_PORT": str(api),
            "PYTHONPATH": str(APP),
        }
        module = [sys.executable, "-m", "katonic_api"]
        subprocess.run([*module, "migrate"], env=os.environ | settings, check=True)
        from katonic_api.settings import load as load_settings

        project = asyncio.run(fill(load_settings(settings)))
        ready = f"http://127.0.0.1:{api}/ready"
        stack.enter_context(program(*module, "serve", ready=ready, **settings))
        paths = {"project list": "/v1/projects", "project read": f"/v1/projects/{project}"}
        bare = {}
        for name, path in paths.items():
            body = folder / f"{name}.json"
            body.write_bytes(ask(f"http://127.0.0.1:{api}{path}", token))
            print(f"{name}: {len(body.read_bytes())} bytes")
            bare[name] = free_port()
            ready = f"http://127.0.0.1:{bare[name]}/"
            words = {"BODY": str(body), "PORT": str(bare[name])}
            stack.enter_context(program(sys.executable, "-c", BARE, ready=ready, **words))

        async def run() -> None:
            writing = asyncio.create_task(writes(api, project, token)) if given.writes else None
            await measure(api, bare, paths, token)
            if writing:
                writing.cancel()

        uvloop.run(run())


if __name__ == "__main__":
    main()
