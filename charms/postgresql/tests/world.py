"""What the charm meets outside of Juju: a PostgreSQL that answers, and has all it is told to."""

import contextlib
from collections.abc import Iterator

from ops import testing

BIN = "/usr/lib/postgresql/15/bin"
EXECS = [
    testing.Exec(["sh", "-c"]),
    testing.Exec([f"{BIN}/pg_isready"]),
    testing.Exec([f"{BIN}/psql"]),
]


@contextlib.contextmanager
def serve() -> Iterator[None]:
    """Serve nothing: the charm asks PostgreSQL by Pebble's exec alone."""
    yield
