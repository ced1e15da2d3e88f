"""What the controller says, as results of actions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from controller.verdict import PoolState, Verdict

_GIB = 2**30


def table(verdict: Verdict) -> str:
    """Return the verdict's line, its troubles, and tables of its pools and its applications."""
    pools = [
        ("POOL", "NODES", "WANTED", "PODS", "FREE CPU", "FREE MEMORY", "FREE GPUS"),
        *(_pool(it) for it in verdict.pools),
    ]
    applications = [
        ("APPLICATION", "POOL", "PLACED", "PODS"),
        *(
            (
                it.name,
                ", ".join(it.pools) or "-",
                f"{it.placed} of {it.replicas}",
                ", ".join(f"{pod.name} {_place(pod.node, pod.place)}" for pod in it.pods) or "-",
            )
            for it in verdict.applications
        ),
    ]
    said = [f"{it.level}: {it.text}" for it in verdict.troubles]
    line = "\n".join(said) or f"{verdict.level}: {verdict.message}"
    return "\n\n".join([line, _columns(pools), _columns(applications)])


def as_json(verdict: Verdict) -> str:
    """Return the verdict as JSON."""
    return msgspec.json.encode(verdict).decode()


def moves(drain: Mapping[str, Any]) -> str:
    """Return what becomes of each pod of a node that goes, one in a line."""
    return "\n".join(
        f"{it['namespace']}/{it['name']}: "
        + (f"fits on {it['to']}" if it["to"] else str(it["reason"]))
        for it in drain["moves"]
    )


def _pool(it: PoolState) -> tuple[str, ...]:
    nodes = f"{len(it.nodes)} ({', '.join(it.nodes)})" if it.nodes else "0"
    bounds = [f"at least {it.minimum_nodes}"] if it.minimum_nodes else []
    bounds += [f"at most {it.maximum_nodes}"] if it.maximum_nodes is not None else []
    memory = f"{it.free.memory // _GIB}Gi"
    free = (f"{it.free.cpu:g}", memory, str(it.free.gpus))
    return (it.name, nodes, ", ".join(bounds) or "-", str(it.pods), *free)


def _place(node: str | None, place: str) -> str:
    return {"placed": f"on {node}", "outside": f"outside, on {node}"}.get(place, place)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Iterable[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()
