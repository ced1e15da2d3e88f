"""The relations benchmark sees what must not be."""

from benchmarks.relations import CLIENTS, Cost, faults

READ = ("secret-get", "secret:a", "--refresh")


def quiet(*calls: tuple[int, tuple[str, ...]]) -> list[Cost]:
    """Return the costs of a hook that makes each call so many times for each client."""
    return [
        Cost("update-status", clients, [it for n, it in calls for _ in range(n * clients)], 0.0)
        for clients in CLIENTS
    ]


def test_calls_that_grow_with_the_clients_are_no_fault():
    assert faults(quiet((4, ("relation-get", "-r", "database:1")))) == []


def test_a_secret_read_twice_is_a_fault():
    twice = [Cost("update-status", it, [READ, (*READ, "--format=json")], 0.0) for it in CLIENTS]
    assert faults(twice) == [f"update-status with {it}: reads twice secret:a" for it in CLIENTS]


def test_a_quiet_hook_that_writes_is_a_fault():
    writes = [Cost("update-status", it, [("relation-set", "-r", "1")], 0.0) for it in CLIENTS]
    assert [it for it in faults(writes) if "writes relation-set" in it]


def test_calls_that_grow_faster_than_the_clients_are_a_fault():
    square = [Cost("update-status", it, [("relation-list",)] * it * it, 0.0) for it in CLIENTS]
    assert faults(square) == ["update-status: 11.0 calls for each client, then 60.0"]
