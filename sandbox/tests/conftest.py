"""The lab for tests of the engine."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def pair() -> Lab:
    """One unit of p, three of b, and p:prov related to b:req."""
    lab = Lab()
    lab.deploy("p")
    lab.deploy("b", 3)
    lab.model.integrate("p:prov", "b:req")
    lab.settle()
    return lab
