"""Begins the simulation before the first of all tests, so that it runs beside them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orders import Runs

RUNS = pytest.StashKey[Runs]()


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(it.path.parent == Path(__file__).parent for it in session.items)
    if wanted and not session.config.option.collectonly:
        session.config.stash[RUNS] = Runs()


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNS in config.stash:
        config.stash[RUNS].end()


@pytest.fixture(scope="session")
def runs(pytestconfig: pytest.Config) -> Runs:
    return pytestconfig.stash[RUNS]
