"""No secret in the open: every place that a curious eye reaches is searched for every secret."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from deployed import Platform

NAMES = {"username", "generations", "access-key", "endpoints", "database", "tls", "version"}
"""What a secret holds beside what is secret."""


@pytest.fixture(scope="module")
def values(platform: Platform) -> dict[str, str]:
    """Return every secret value of the model, named by secret and key."""
    found = {}
    for secret in platform.juju.secrets():
        content = platform.juju.show_secret(secret.uri, reveal=True).content
        for key, value in content.items():
            if key not in NAMES and len(value) >= 8:
                found[f"{secret.label or secret.uri} {key}"] = value
    assert len(found) >= 5, "a platform without secrets has not been looked at"
    return found


def hits(values: dict[str, str], places: Iterator[tuple[str, str]]) -> list[str]:
    """Return where a secret is seen; a URI counts by the password in it."""
    searched = 0
    found = []
    for place, text in places:
        searched += len(text)
        found += [f"{name} in {place}" for name, value in values.items() if value in text]
    assert searched > 1000, "nothing was searched"
    return found


def runs_pebble(container: Mapping[str, Any]) -> bool:
    """Return whether a container is one of Juju's; a charm may have made pods of its own."""
    return container.get("command", [""])[0] == "/charm/bin/pebble"


def test_none_is_in_relation_data(platform, values):
    def places() -> Iterator[tuple[str, str]]:
        for application in platform.juju.status().apps.values():
            for unit in application.units:
                yield unit, platform.juju.cli("show-unit", unit, "--format", "json")

    assert hits(values, places()) == []


def test_none_is_in_the_specification_of_a_pod_or_any_other_object(platform, values):
    def places() -> Iterator[tuple[str, str]]:
        for kind in ("pods", "statefulsets", "services", "configmaps", "events"):
            yield kind, platform.kubectl("get", kind, "-o", "json")

    assert hits(values, places()) == []


def test_none_is_in_the_arguments_of_a_process(platform, values):
    def places() -> Iterator[tuple[str, str]]:
        for pod in platform.pods():
            name = pod["metadata"]["name"]
            for container in pod["spec"]["containers"]:
                script = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done"
                where = ["exec", name, "-c", container["name"], "--", "sh", "-c", script]
                yield f"{name} {container['name']}", platform.kubectl(*where)

    assert hits(values, places()) == []


def test_none_is_in_a_plan_of_pebble(platform, values):
    def places() -> Iterator[tuple[str, str]]:
        for pod in platform.pods():
            name = pod["metadata"]["name"]
            for container in pod["spec"]["containers"]:
                if not runs_pebble(container) or container["name"] == "charm":
                    continue
                where = ["exec", name, "-c", container["name"], "--", "/charm/bin/pebble", "plan"]
                yield f"{name} {container['name']}", platform.kubectl(*where)

    assert hits(values, places()) == []


def test_none_is_in_a_log(platform, values):
    def places() -> Iterator[tuple[str, str]]:
        yield "debug-log", platform.juju.debug_log()
        for pod in platform.pods():
            name = pod["metadata"]["name"]
            for container in pod["spec"]["containers"]:
                where = f"{name} {container['name']}"
                yield where, platform.kubectl("logs", name, "-c", container["name"])
                if runs_pebble(container) and container["name"] != "charm":
                    pebble = ["--", "/charm/bin/pebble", "logs", "-n", "all"]
                    words = ["exec", name, "-c", container["name"], *pebble]
                    yield f"{where} pebble", platform.kubectl(*words)

    assert hits(values, places()) == []


def test_none_is_in_the_arguments_of_a_process_of_this_machine(values):
    def places() -> Iterator[tuple[str, str]]:
        command = ["ps", "-eww", "-o", "args="]
        yield "ps", subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert hits(values, places()) == []


def test_the_search_finds_what_is_there(platform, values, tmp_path: Path):
    planted = next(iter(values.values()))
    assert hits(values, iter([("a plant", "x" * 1000 + json.dumps({"password": planted}))]))
