"""The program: `python -m controller watch ...` or `python -m controller follow ...`."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import lightkube

from . import failures, pools


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in a line."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"{self.prog}: {message}\n")


class Lines(logging.Formatter):
    """One line for each record, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        return " ".join(super().format(record).split())


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line says, or end with what is wrong with it."""
    parser = Parser(prog="controller", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True, metavar="watch|follow")
    watch = roles.add_parser("watch", help="keep the pods of a namespace on their pools")
    watch.add_argument("--pools", required=True, type=Path, metavar="FILE", help="JSON of pools")
    watch.add_argument("--namespace", required=True, help="whose templates and pods are mended")
    follow = roles.add_parser("follow", help="keep what a watcher says, and wake the charm")
    follow.add_argument("url", help="where the watcher answers")
    for it in (watch, follow):
        it.add_argument("--listen", type=int, default=8080, metavar="PORT")
    return parser.parse_args(arguments)


async def watch(known: tuple[pools.Pool, ...], namespace: str, port: int) -> None:
    """Watch the cluster until told to end."""
    from . import kubernetes, serve
    from .watch import Watcher

    client, calls = kubernetes.connect(namespace)
    async with client:
        watcher = Watcher(client, namespace, known)
        site = serve.Site(watcher, calls)
        await _beside(serve.serve(site.application, port), watcher.run(), watcher.end)


async def follow(url: str, port: int) -> None:
    """Follow a watcher until told to end."""
    import httpx2

    from . import serve
    from .follow import Follower

    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        follower = Follower(client)
        await _beside(serve.serve(follower.application, port), follower.run())


async def _beside(
    server: Coroutine[Any, Any, None],
    run: Coroutine[Any, Any, None],
    end: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve and run; when the server ends, for it is told to, so does the other."""
    for it in (signal.SIGINT, signal.SIGTERM):
        # uvicorn ends at these, and raises them anew then: that must not be the end of all.
        asyncio.get_running_loop().add_signal_handler(it, lambda: None)
    running, serving = asyncio.ensure_future(run), asyncio.ensure_future(server)
    done, _ = await asyncio.wait((running, serving), return_when=asyncio.FIRST_COMPLETED)
    if end and running not in done:
        await end()
    running.cancel()
    serving.cancel()
    await asyncio.gather(running, serving, return_exceptions=True)
    for it in done:
        it.result()


def main() -> int:
    """Run what the command line says, and return the exit code."""
    given = parse(sys.argv[1:])
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        if given.role == "watch":
            known = pools.load(given.pools.read_bytes())
            asyncio.run(watch(known, given.namespace, given.listen))
        else:
            asyncio.run(follow(given.url, given.listen))
    except (OSError, pools.WrongPoolsError, lightkube.ConfigError) as error:
        print(f"controller: {failures.line(error)}", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"controller: {failures.line(_first(error))}", file=sys.stderr)
        return 1
    return 0


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
