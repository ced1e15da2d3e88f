"""What the tests of the pages import: the pages themselves, and who plays what is outside."""

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE.parent / "app"), str(_HERE)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def platform():
    """Return the pages, and what is outside of them."""
    import browser

    return browser.Platform()
