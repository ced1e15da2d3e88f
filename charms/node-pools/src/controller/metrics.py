"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .verdict import Resources, Verdict

_PREFIX = "node_pools"
_HELP = {
    "pool_nodes": "Nodes with the pool's label.",
    "pool_ready_nodes": "Nodes with the pool's label that are ready.",
    "pool_minimum_nodes": "Nodes that the pool should have at least.",
    "pool_pods": "Pods on the pool's nodes, whoever's they are.",
    "pool_requested_cpu_cores": "Cores that the pods on the pool's nodes ask for.",
    "pool_requested_memory_bytes": "Memory that the pods on the pool's nodes ask for.",
    "pool_requested_gpus": "GPUs that the pods on the pool's nodes ask for.",
    "pool_allocatable_cpu_cores": "Cores that the pool's nodes have for pods.",
    "pool_allocatable_memory_bytes": "Memory that the pool's nodes have for pods.",
    "pool_allocatable_gpus": "GPUs that the pool's nodes have for pods.",
    "pool_free_cpu_cores": "Whole cores left on the pool's ready, schedulable nodes.",
    "pool_free_memory_bytes": "Whole GiB left on the pool's ready, schedulable nodes.",
    "pool_free_gpus": "GPUs left on the pool's ready, schedulable nodes.",
    "application_replicas": "Pods that the application should have.",
    "application_placed": "Pods of the application that stand on a pool it asks for.",
    "misplaced_pods": "Pods of applications that run outside of the pools they ask for.",
    "troubles": "What is not as it should be.",
    "api_calls_total": "Requests to Kubernetes' API by verb and answer, 0 for none.",
    "mends_total": "Steps by which templates, pods and budgets were mended.",
    "errors_total": "Steps that Kubernetes refused or did not answer.",
    "watch_restarts_total": "Watches of Kubernetes' API that broke and were begun anew.",
}


def text(
    verdict: Verdict | None, calls: Mapping[tuple[str, int], int], counts: Mapping[str, int]
) -> str:
    """Return the metrics in Prometheus' text format.

    Args:
        verdict: What is said of the cluster, if anything is yet.
        calls: How many requests were made, by verb and the answer's code.
        counts: The counters without labels.
    """
    rows: dict[str, list[str]] = {name: [] for name in _HELP}
    for name, value in counts.items():
        rows[name].append(_row(name, value))
    for (verb, code), value in sorted(calls.items()):
        rows["api_calls_total"].append(_row("api_calls_total", value, verb=verb, code=str(code)))
    for name, value, labels in _seen(verdict) if verdict else ():
        rows[name].append(_row(name, value, **labels))
    lines = []
    for name, found in rows.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {_PREFIX}_{name} {_HELP[name]}", f"# TYPE {_PREFIX}_{name} {kind}"]
        lines += found
    return "\n".join(lines) + "\n"


def _seen(verdict: Verdict) -> Iterator[tuple[str, float, dict[str, str]]]:
    for it in verdict.pools:
        labels = {"pool": it.name}
        yield "pool_nodes", len(it.nodes), labels
        yield "pool_ready_nodes", it.ready_nodes, labels
        yield "pool_minimum_nodes", it.minimum_nodes, labels
        yield "pool_pods", it.pods, labels
        for name, amount in _amounts(it.requested, it.allocatable, it.free):
            yield f"pool_{name}", amount, labels
    for it in verdict.applications:
        yield "application_replicas", it.replicas, {"application": it.name}
        yield "application_placed", it.placed, {"application": it.name}
    outside = [pod for it in verdict.applications for pod in it.pods if pod.place == "outside"]
    yield "misplaced_pods", len(outside), {}
    for level in ("blocked", "waiting"):
        yield "troubles", sum(it.level == level for it in verdict.troubles), {"level": level}


def _amounts(
    requested: Resources, allocatable: Resources, free: Resources
) -> Iterator[tuple[str, float]]:
    for word, it in (("requested", requested), ("allocatable", allocatable), ("free", free)):
        yield f"{word}_cpu_cores", it.cpu
        yield f"{word}_memory_bytes", it.memory
        yield f"{word}_gpus", it.gpus


def _row(name: str, value: float, **labels: str) -> str:
    said = ",".join(f'{key}="{it}"' for key, it in labels.items())
    return f"{_PREFIX}_{name}{f'{{{said}}}' if said else ''} {value}"
