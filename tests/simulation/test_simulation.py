"""The bundle settles, from any order of events, with faults thrown in."""

import collections
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import scenarios
from orders import ORDERS, Runs
from scenarios import Ran


def test_the_bundle_settles_to_the_same_state_from_200_event_orders(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = [it.undisturbed for it in runs.settled]
    amid_faults = runs.orders
    assert_same(amid_faults, undisturbed)
    orders = {run.told for run in [*undisturbed, *amid_faults]}
    assert len(orders) >= ORDERS
    faults = sum((run.faults for run in amid_faults), collections.Counter())
    assert all(faults[it] for it in scenarios.KINDS), f"not every fault happened: {faults}"
    hooks = sorted(map(len, orders))
    with capsys.disabled():
        print(
            f"\n{len(orders)} orders; events in each {hooks[0]} to {hooks[-1]}, "
            f"median {hooks[len(hooks) // 2]}; faults: {dict(faults)}"
        )


def test_credentials_are_rotated_amid_faults_and_every_client_follows(runs: Runs) -> None:
    rotated = [it.rotations for it in runs.settled]
    assert_same((run for it in rotated for run in it), [it[0] for it in rotated])


def test_what_an_option_no_longer_asks_for_is_deleted_amid_faults(runs: Runs) -> None:
    changed = [it.changes for it in runs.settled]
    assert_same((run for it in changed for run in it), [it[0] for it in changed])


def assert_same(found: Iterable[Ran], expected: list[Ran]) -> None:
    """Assert that each run ended as that which is expected of its layout."""
    for run in found:
        layout = int(run.seed.partition(".")[0])
        wanted = expected[layout].found
        assert run.found == wanted, f"seed {run.seed}: {differences(run.found, wanted)}"


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Return what is not as expected, a few lines of it."""
    keys = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    return "".join(f"\n{k}:\n  {expected.get(k)}\n  {found.get(k)}" for k in keys[:4])
