"""Serves the pages until it is told to stop, and then until nobody comes any more."""

import asyncio
import logging
import os
from types import FrameType

import prometheus_client
import uvicorn

from katonic_ui.application import application
from katonic_ui.settings import read

PORT, METRICS_PORT = 8080, 9090
_DRAIN = 4.0
"""Seconds for which it still serves when told to stop: so long others may not know of it yet."""


class Server(uvicorn.Server):
    """A server that says first that it is about to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after a while, at the second signal at once."""
        site = self.config.app.site  # pyright: ignore - ours
        if site.draining:
            super().handle_exit(sig, frame)
            return
        site.draining = True
        loop = asyncio.get_running_loop()
        loop.call_later(_DRAIN, super().handle_exit, sig, frame)


def main() -> None:
    """Serve."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    prometheus_client.start_http_server(METRICS_PORT)
    config = uvicorn.Config(
        application(read(os.environ)),
        host="0.0.0.0",  # noqa: S104 - a pod's
        port=PORT,
        access_log=False,
        server_header=False,
        # The gateway keeps connections for an hour; who of the two closes first must not be us.
        timeout_keep_alive=4000,
        timeout_graceful_shutdown=15,
        log_config=None,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
