"""Serves the application, and ends so that no request is lost."""

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from . import settings
from .app import create
from .log import log

logger = logging.getLogger(__name__)

LINGER = 6
"""Seconds for which requests are still taken after the end was announced: until every gateway has
heard that this server is none to ask any more."""

DRAIN = 15
"""Seconds that requests under way may take then."""

_PARENT_DIED = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def run(given: settings.Settings, listening: socket.socket) -> None:
    """Serve in as many processes as the settings say, until told to end."""
    config = uvicorn.Config(
        "katonic_api.serving:application",
        factory=True,
        workers=given.workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        root_path=given.root_path,
        # The gateway keeps connections for an hour; who of the two closes first must not be us.
        timeout_keep_alive=4000,
        timeout_graceful_shutdown=DRAIN,
    )
    if given.workers > 1:
        Multiprocess(config, [listening]).run()
    else:
        uvicorn.Server(config).run([listening])


def application() -> FastAPI:
    """Return the application for one process."""
    given = settings.load()
    log(given.log_level)
    if multiprocessing.parent_process():
        # One that outlives a killed parent would keep its port.
        ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGTERM)
    return create(given, lingering)


@contextlib.contextmanager
def lingering(leaving: asyncio.Event) -> Iterator[None]:
    """Have the first signal to end set `leaving`, and take effect only after a while."""
    loop = asyncio.get_running_loop()

    def announce(number: int, frame: FrameType | None) -> None:
        if not leaving.is_set():
            leaving.set()
            loop.call_soon_threadsafe(lambda: loop.call_later(LINGER, end, number, frame))

    end: Any = signal.signal(signal.SIGTERM, announce)  # uvicorn's own
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, end)
