"""The program: `python -m katonic_api serve` or `migrate`."""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile

from pydantic import ValidationError
from pymongo.errors import PyMongoError

from . import migrations, settings
from .log import log
from .settings import Settings
from .store import Store


async def migrate(given: Settings) -> list[int]:
    """Bring the database to this version of the server."""
    store = Store(given)
    async with store.client:
        return await migrations.migrate(store)


def serve(given: Settings) -> None:
    """Answer on all addresses, in as many processes as the settings say, until told to end."""
    folder = tempfile.mkdtemp(prefix="katonic-api-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read when prometheus_client is imported
    from .serving import run

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # what uvicorn ends with
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        with socket.create_server(
            ("", given.port), family=family, dualstack_ipv6=both, backlog=2048
        ) as listening:
            run(given, listening)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Do what the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(prog="katonic_api", description=__doc__)
    parser.add_argument("what", choices=["serve", "migrate"])
    what = parser.parse_args().what
    try:
        given = settings.load()
        log(given.log_level)
        if what == "serve":
            serve(given)
        else:
            made = asyncio.run(migrate(given))
            print(f"made versions: {', '.join(map(str, made)) or 'none'}")
    except ValidationError as error:
        names = ", ".join(f"KATONIC_{it['loc'][0]}".upper() for it in error.errors())
        print(f"katonic_api: not set, or not allowed: {names}", file=sys.stderr)
        return 1
    except (OSError, PyMongoError) as error:
        print(f"katonic_api: {' '.join(str(error).split())[:500]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
