"""The program: `python -m watcher watch ...` or `python -m watcher follow ...`."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from watcher import definitions
from watcher.follow import Follower
from watcher.serve import serve
from watcher.watch import Watcher


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="watcher", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    watch = roles.add_parser(
        "watch", help="watch what the istiod of this pod says of its gateways"
    )
    follow = roles.add_parser("follow", help="keep what a watcher says, and wake the charm")
    follow.add_argument("url", help="where the watcher answers")
    follow.add_argument("--definitions", type=Path, required=True, metavar="DIRECTORY")
    for it in (watch, follow):
        it.add_argument("--listen", type=int, required=True, metavar="PORT")
    return parser.parse_args(arguments)


def run(job: Callable[[], None]) -> None:
    """Run what runs for ever; should it end, so does the program, which is then started anew."""
    try:
        job()
    finally:
        logging.exception("%s has ended", job)
        os._exit(1)


def main() -> int:
    """Run what the command line says until it is told to end."""
    given = parse(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if given.role == "watch":
        role = Watcher()
    else:
        role = Follower(given.url, definitions.Keeper(given.definitions))
    for job in role.jobs:
        threading.Thread(target=run, args=(job,), daemon=True).start()
    server = serve(role.answers, given.listen)
    for it in (signal.SIGINT, signal.SIGTERM):
        signal.signal(it, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
