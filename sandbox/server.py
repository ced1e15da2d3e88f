"""The controller: the process that holds the models, and answers agents and the command line.

Everything that touches a model runs on one event loop, so nothing needs a lock; Kubernetes is
written from one worker thread, with a copy of the model. Each transition is on disk before it is
answered: after a kill -9 the next controller goes on where this one was, and a hook that was
running is run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from lightkube import Client, KubeConfig
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox import controller, events, verbs, views
from sandbox.hooktools import HookContext
from sandbox.layout import Controller
from sandbox.model import Model, ModelError, Unit
from sandbox.pods import PodNews, Pods, digest
from sandbox.store import Store

SILENCE = 25.0
"""Seconds without a word from an idle agent after which it counts as gone."""
REPAIR = 20.0
"""Seconds between two looks at whether someone has deleted or scaled what is ours."""


class GoneError(Exception):
    """The unit that a token names is no longer there."""


class Server:
    """The models of one user and the requests about them."""

    def __init__(self, record: controller.Record, client: Client):
        self.record = record
        address = f"http://{record.address}:{record.port}"
        about = Controller(record.uuid, address, record.agent_image, record.charm_image)
        self.pods = Pods(client, about, self.token)
        self.store = Store(controller.home(), f"{record.address}:{record.port}")
        self.models = self.store.models
        self.contexts: dict[str, HookContext] = {}
        self.turns: dict[tuple[str, str], object] = {}
        self.seen: dict[tuple[str, str], float] = {}
        self.dirty = set(self.models)
        self.synced: dict[str, Any] = {}
        self.news = asyncio.Condition()
        self.troubles: dict[str, str] = {}

    async def changed(self, model: Model) -> None:
        """Put a model on disk and wake everyone who waits for something new."""
        if self.store.save(model):
            self.dirty.add(model.uuid)
            await self.wake()

    async def wake(self) -> None:
        """Let everyone who waits look again."""
        async with self.news:
            self.news.notify_all()

    async def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds, or some seconds; time alone may make it hold."""
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            async with self.news:
                try:
                    await asyncio.wait_for(self.news.wait(), min(left, 1.0))
                except TimeoutError:
                    continue

    # --- the agents -----------------------------------------------------------------------------

    def token(self, model: Model, name: str) -> str:
        """Return the token of an application ("app": it may introduce its pods) or a unit."""
        application = model.application(name.partition("/")[0])
        text = f"{model.uuid}:{name}"
        key = self.record.secret.encode()
        mac = hmac.new(key, f"{text}:{application.uuid}".encode(), hashlib.sha256).hexdigest()
        return f"{text}:{mac}"

    def caller(self, request: Request) -> tuple[Model, str]:
        """Return the model and the unit (or application) whose token comes with a request."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        model = self.models.get(given.partition(":")[0])
        name = given.partition(":")[2].partition(":")[0]
        if model is None or name.partition("/")[0] not in model.applications:
            raise GoneError
        if not hmac.compare_digest(self.token(model, name), given):
            raise PermissionError
        if "/" in name:
            self.unit(model, name)
            self.seen[model.uuid, name] = time.monotonic()
        return model, name

    def unit(self, model: Model, name: str) -> Unit:
        """Return a unit; raises GoneError when it is no longer there."""
        try:
            return model.find(name)
        except ModelError:
            raise GoneError from None

    async def introduce(self, request: Request) -> Response:
        """Give a pod of an application its unit's name and token."""
        model, application = self.caller(request)
        body = await request.json()
        name = f"{application}/{body['pod'].rpartition('-')[2]}"
        if "/" in application or body["pod"] != name.replace("/", "-"):
            raise PermissionError
        unit = model.find(name)
        conf = {"controller": self.pods.controller.address, "unit": unit.name}
        return JSONResponse({**conf, "token": self.token(model, name), "pod_uid": body["uid"]})

    async def hello(self, request: Request) -> Response:
        """An agent has started: its unit is up, with the volumes that its pod has."""
        model, name = self.caller(request)
        body = await request.json()
        unit = self.unit(model, name)
        pod = name.replace("/", "-")
        self.drop_contexts(model, name)
        model.pod_up(name, body["address"], body["pod"], pod)
        await self.changed(model)
        if unit.storage:
            found = await asyncio.to_thread(self.pods.volumes, model.name, pod)
            volumes = {it: found.get(model.storage[it].name, "") for it in unit.storage}
            model.storage_ready(name, volumes)
            await self.changed(model)
        path = model.applications[unit.application].charm.path
        return JSONResponse({"charm": path.stem})

    def context(self, model: Model, unit: str, key: str) -> HookContext | None:
        """Return the hook that a unit is running, None when it is not that one."""
        found = self.contexts.get(key)
        return found if found and found.model is model and found.unit.name == unit else None

    def drop_contexts(self, model: Model, unit: str) -> None:
        """Forget the hooks that a unit was running: their writes are gone, they are told again."""
        for key, context in list(self.contexts.items()):
            if context.model is model and context.unit.name == unit:
                del self.contexts[key]

    async def next(self, request: Request) -> Response:
        """Give a unit what it runs next, waiting some seconds for it; {} when there is nothing."""
        model, name = self.caller(request)
        turn = self.turns[model.uuid, name] = object()  # an agent that is gone may wait here still

        def due() -> bool:
            mine = self.turns[model.uuid, name] is turn and self.unit(model, name).up
            return not mine or model.next_event(name) is not None

        await self.until(due, float(request.query_params["wait"]))
        if not self.unit(model, name).up:
            return JSONResponse({"lost": True})
        event = model.next_event(name)
        if event is None or self.turns[model.uuid, name] is not turn:
            return JSONResponse({})
        self.drop_contexts(model, name)
        context = HookContext(model, name, event)
        key = context.environment["JUJU_CONTEXT_ID"]
        self.contexts[key] = context
        await self.changed(model)
        answer = {
            "context": key,
            "name": events.hook_name(event),
            "kind": "action" if event.kind == "action" else "hook",
            "environment": context.environment,
        }
        if event.action == "juju-exec":
            answer["command"] = model.tasks[event.task].params["command"]
        return JSONResponse(answer)

    async def hook(self, request: Request) -> Response:
        """Run one hook tool in its hook's context."""
        model, name = self.caller(request)
        body = await request.json()
        context = self.context(model, name, body["context"])
        if context is None:
            return JSONResponse({"code": 1, "stdout": "", "stderr": "ERROR hook context gone\n"})
        result = context.run(body["argv"], body["stdin"])
        return JSONResponse(
            {"code": result.code, "stdout": result.stdout, "stderr": result.stderr}
        )

    async def finish(self, request: Request) -> Response:
        """End a hook: keep or drop what it wrote; one that was dropped before is told again."""
        model, name = self.caller(request)
        body = await request.json()
        context = self.context(model, name, body["context"])
        if context is not None:
            del self.contexts[body["context"]]
            context.finish(body["code"], body["stdout"], body["stderr"])
            await self.changed(model)
        return JSONResponse({})

    async def report(self, request: Request) -> Response:
        """Pebble of a workload container answers, or tells a notice or a check."""
        model, name = self.caller(request)
        body = await request.json()
        container = body["container"]
        if body["what"] == "ready":
            model.pebble_ready(name, container)
        elif body["what"] == "notice":
            model.notice(name, container, body["id"], body["type"], body["key"])
        else:
            model.check(name, container, body["name"], failed=body["failed"])
        await self.changed(model)
        return JSONResponse({})

    async def log(self, request: Request) -> Response:
        """Write lines of a unit to the debug-log."""
        model, name = self.caller(request)
        for level, module, text in (await request.json())["lines"]:
            model.write_log(name, level, module, text)
        return JSONResponse({})

    async def terminating(self, request: Request) -> Response:
        """The charm container is about to end: its unit runs `stop` next."""
        model, name = self.caller(request)
        model.stopping(name)
        await self.changed(model)
        return JSONResponse({})

    async def charm(self, request: Request) -> Response:
        """Give an agent its charm."""
        model, name = self.caller(request)
        return FileResponse(model.applications[name.partition("/")[0]].charm.path)

    async def resource(self, request: Request) -> Response:
        """Give an agent a file resource of its application."""
        model, name = self.caller(request)
        application = model.applications[name.partition("/")[0]]
        resource = request.path_params["resource"]
        value = application.resources[resource]
        if application.charm.resources[resource].type == "file":
            return FileResponse(value)
        return PlainTextResponse(f"registrypath: {value}\n")

    async def exec(self, request: Request) -> Response:
        """Run a command of `juju-exec` inside a pod, after the hooks that run now."""
        model, name = self.caller(request)
        command = verbs.command_line((await request.json())["command"])
        task = model.exec(name, command)
        await self.changed(model)
        await self.until(lambda: task.completed is not None, 300)
        results = task.results
        answer = {"stdout": results.get("stdout", ""), "stderr": results.get("stderr", "")}
        return JSONResponse({"code": int(results.get("return-code", 1)), **answer})

    # --- the command line -----------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """Return the controller's id."""
        return JSONResponse(self.record.uuid)

    async def list_models(self, request: Request) -> Response:
        """Return every model in the words of `juju models`."""
        return JSONResponse([views.show_model(m, self.record.uuid) for m in self.models.values()])

    async def add_model(self, request: Request) -> Response:
        """Add a model."""
        body = await request.json()
        if await asyncio.to_thread(self.pods.taken, body["name"]):
            taken = [model.name for model in self.models.values()]
            if body["name"] not in taken:
                raise ModelError(f'namespace "{body["name"]}" is there: choose another name')
        model = self.store.add(body["name"], body["settings"])
        await self.changed(model)
        return JSONResponse(model.uuid)

    async def read(self, request: Request) -> Response:
        """Return a view of a model."""
        model = self.store.by_name(request.path_params["model"])
        view = views.VIEWS[request.path_params["verb"]]
        return JSONResponse(view(model, **request.query_params))

    async def act(self, request: Request) -> Response:
        """Do one verb to a model and return what it says."""
        model = self.store.by_name(request.path_params["model"])
        body = await request.json()
        verb = request.path_params["verb"]
        do = self.store.end if verb == "destroy" else verbs.VERBS[verb]
        answer = do(model, **body)
        if verb == "destroy":
            self.dirty.add(model.uuid)  # a model without applications does not change by it
        await self.changed(model)
        return JSONResponse(answer)

    async def task(self, request: Request) -> Response:
        """Return a task, waiting some seconds for its end or for more of its log."""
        model = self.store.by_name(request.path_params["model"])
        task = model.tasks.get(request.path_params["task"])
        if task is None:
            raise ModelError(f'task "{request.path_params["task"]}" not found')
        known = int(request.query_params["known"])

        def news() -> bool:
            return views.ended(task) or len(task.log) > known

        await self.until(news, float(request.query_params["wait"]))
        return JSONResponse(views.show_task(task))

    # --- what goes on by itself -----------------------------------------------------------------

    async def keep_time(self) -> None:
        """Each second: what is due by time, and agents that have fallen silent."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for model in list(self.models.values()):
                for unit in model.units():
                    seen = self.seen.setdefault((model.uuid, unit.name), now)
                    if unit.up and unit.running is None and now - seen > SILENCE:
                        model.pod_down(unit.name)
                        unit.down_since = time.time() - (now - seen)
                model.tick(time.time())
                await self.changed(model)
            await self.wake()

    async def keep_pods(self) -> None:
        """Write to Kubernetes what the models want there."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            if time.monotonic() - looked > REPAIR:
                looked = time.monotonic()
                await self.quietly(self.repair())
            for key in list(self.dirty):
                self.dirty.discard(key)
                if key in self.models:
                    await self.quietly(self.sync(self.models[key]), again=key)

    async def repair(self) -> None:
        """Let what someone has deleted or scaled be written again."""
        for key in await asyncio.to_thread(self.pods.disturbed):
            self.synced.pop(key, None)
            self.dirty.add(key)

    async def sync(self, model: Model) -> None:
        """Write one model to Kubernetes and take in what comes back."""
        now = digest(model)
        if self.synced.get(model.uuid) != now:
            services = await asyncio.to_thread(self.pods.sync, Model.from_json(model.to_json()))
            self.synced[model.uuid] = now
            for name, (address, service) in services.items():
                app = model.applications.get(name)
                if app and (app.address, app.provider_id) != (address, service):
                    model.service_up(name, address, service)
            await self.changed(model)
        if model.uuid in self.store.ending and not model.applications:
            destroy_storage = self.store.ending[model.uuid]
            if await asyncio.to_thread(self.pods.remove, model, destroy_storage):
                self.store.forget(model)
                self.synced.pop(model.uuid, None)
                await self.wake()
            else:
                await asyncio.sleep(0.5)
                self.dirty.add(model.uuid)

    async def quietly(self, work: Awaitable[None], again: str = "") -> None:
        """Do something with Kubernetes; when it fails, log it and try again later."""
        try:
            await work
        except Exception:  # the API server may be away for as long as it likes
            traceback.print_exc()
            await asyncio.sleep(1)
            self.dirty.update([again] if again else [])

    def on_pod(self, news: PodNews) -> None:
        """Take in what Kubernetes says of a pod."""
        try:
            model = self.store.by_name(news.namespace)
            unit = model.find(f"{news.application}/{news.name.rpartition('-')[2]}")
        except ModelError:
            self.troubles.pop(news.uid, None)
            return
        if news.gone:
            self.troubles.pop(news.uid, None)
            if unit.up and unit.pod == news.uid:
                self.drop_contexts(model, unit.name)
                model.pod_down(unit.name)
        elif not unit.up:
            if news.message and self.troubles.get(news.uid) != news.message:
                model.write_log(unit.name, "WARNING", "juju.worker.caas", news.message)
            self.troubles[news.uid] = news.message
            message = news.message or "installing agent"
            if not unit.installed and unit.workload.message != message:
                model.set_status(unit.name, "waiting", message, application=False)
        self.dirty.add(model.uuid)

    def watch_pods(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass on every word about pods, for ever."""
        while True:
            try:
                for news in self.pods.watch():
                    loop.call_soon_threadsafe(self.on_pod, news)
            except Exception:  # the API server may be away for as long as it likes
                traceback.print_exc()
            time.sleep(1)

    # --- the process ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Return who answers what; the command line's routes want the user's own token."""
        agents = {
            "introduce": self.introduce,
            "hello": self.hello,
            "finish": self.finish,
            "hook": self.hook,
            "report": self.report,
            "log": self.log,
            "terminating": self.terminating,
            "exec": self.exec,
        }
        routes = [Route(f"/agent/{n}", guarded(f), methods=["POST"]) for n, f in agents.items()]
        return [
            *routes,
            Route("/agent/next", guarded(self.next)),
            Route("/agent/charm/{key}", guarded(self.charm)),
            Route("/agent/resource/{resource}", guarded(self.resource)),
            Route("/health", self.own(self.health)),
            Route("/models", self.own(self.list_models)),
            Route("/models", self.own(self.add_model), methods=["POST"]),
            Route("/models/{model:path}/tasks/{task}", self.own(self.task)),
            Route("/models/{model:path}/{verb}", self.own(self.read)),
            Route("/models/{model:path}/{verb}", self.own(self.act), methods=["POST"]),
        ]

    def own(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[..., Any]:
        """Return a handler that only the user's token reaches."""

        async def checked(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given, f"Bearer {self.record.token}"):
                raise PermissionError
            return await handler(request)

        return guarded(checked)

    async def serve(self) -> None:
        """Serve until the process is told to end."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self.watch_pods, args=(loop,), daemon=True).start()
        work = [asyncio.create_task(t) for t in (self.keep_time(), self.keep_pods())]
        config = uvicorn.Config(
            Starlette(routes=self.routes()),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
        addresses = {"127.0.0.1", self.record.address}
        sockets = [listen(address, self.record.port) for address in sorted(addresses)]
        await uvicorn.Server(config).serve(sockets=sockets)
        for task in work:
            task.cancel()


def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[..., Any]:
    """Return a handler that answers refusals in one line of text."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except GoneError:
            return PlainTextResponse("gone", 410)
        except PermissionError:
            return PlainTextResponse("permission denied", 403)
        except (ModelError, LookupError) as error:
            return PlainTextResponse(str(error), 409)
        except Exception:
            traceback.print_exc()
            log = controller.home() / "controller.log"
            return PlainTextResponse(f"this is a defect of the sandbox: see {log}", 500)

    return answer


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens, also where a controller has just ended."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    return listener


def main() -> None:
    """Run the controller that `controller.ensure` has written the record of."""
    record = controller.read_record()
    if record is None:
        sys.exit("there is no controller to run: use sandbox/juju")
    os.umask(0o077)
    client = Client(config=KubeConfig.from_file(Path(record.kubeconfig)), field_manager="juju")
    asyncio.run(Server(record, client).serve())


if __name__ == "__main__":
    main()
