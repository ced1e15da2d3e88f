"""What the tests of the server import: the server itself, and who plays what is around it."""

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE.parent / "app"), str(_HERE)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
