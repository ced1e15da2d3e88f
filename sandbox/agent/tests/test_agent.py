"""The unit agent by itself: what it unpacks, what a hook sees of its environment, what it runs."""

import importlib.util
import io
import queue
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

AGENT = Path(__file__).parents[1] / "agent.py"


class Lines:
    """Stands at the end of the log, where the controller would be."""

    def __init__(self) -> None:
        self.lines: queue.Queue[tuple[str, str, str]] = queue.Queue()

    def put(self, *line: str) -> None:
        self.lines.put(line)  # type: ignore[arg-type]

    def all(self) -> list[tuple[str, str, str]]:
        return list(self.lines.queue)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The agent's module, at home in a folder of the test's own."""
    home = tmp_path / "unit-a-0"
    home.mkdir()
    monkeypatch.setattr(sys, "argv", ["agent.py", str(home)])
    spec = importlib.util.spec_from_file_location("agent_under_test", AGENT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_charm_is_unpacked_with_its_modes_and_links_once(agent: ModuleType) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        dispatch, link = zipfile.ZipInfo("dispatch"), zipfile.ZipInfo("src/other.py")
        dispatch.external_attr, link.external_attr = 0o100755 << 16, 0o120777 << 16
        packed.writestr(dispatch, "#!/bin/sh\n")
        packed.writestr(zipfile.ZipInfo("src/"), "")
        packed.writestr("src/charm.py", "pass\n")
        packed.writestr(link, "charm.py")
    asked: list[str] = []

    class Controller:
        def call(self, path: str) -> bytes:
            asked.append(path)
            return content.getvalue()

    agent.fetch_charm(Controller(), "one")
    agent.fetch_charm(Controller(), "one")
    assert asked == ["/agent/charm/one"]
    assert (agent.CHARM / "dispatch").stat().st_mode & 0o777 == 0o755
    assert (agent.CHARM / "src/other.py").read_text() == "pass\n"
    (agent.CHARM / "left").write_text("")
    agent.fetch_charm(Controller(), "two")
    assert not (agent.CHARM / "left").exists()


def test_a_hook_sees_kubernetes_services_and_what_it_is_given_alone(
    agent: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PEBBLE", "HTTP_PROBE_PORT", "HOME", "JUJU_CONTAINER_NAMES"):
        monkeypatch.setenv(name, "x")
    kept = {
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
        "B_SERVICE_PORT_PLACEHOLDER": "65535",
        "B_PORT": "tcp://10.96.1.1:65535",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert agent.environment({"JUJU_UNIT_NAME": "a/0"}) == {**kept, "JUJU_UNIT_NAME": "a/0"}


def event(kind: str, **more: Any) -> dict[str, Any]:
    environment = {"PATH": "/usr/bin:/bin", "WORD": "hej"}
    return {"kind": kind, "name": "start", "environment": environment, **more}


def test_a_hooks_output_goes_to_the_log_and_its_code_is_told(agent: ModuleType) -> None:
    agent.CHARM.mkdir()
    script = "#!/bin/sh\necho $WORD; echo wrong >&2; pwd; exit 3\n"
    (agent.CHARM / "dispatch").write_text(script)
    (agent.CHARM / "dispatch").chmod(0o755)
    log = Lines()
    assert agent.run(event("hook"), log) == {"code": 3, "stdout": "", "stderr": ""}
    assert set(log.all()) == {
        ("INFO", "start", "hej"),
        ("INFO", "start", str(agent.CHARM)),
        ("WARNING", "start", "wrong"),
    }


def test_a_commands_output_is_its_result(agent: ModuleType) -> None:
    agent.CHARM.mkdir()
    log = Lines()
    done = agent.run(event("action", command="echo $WORD; echo wrong >&2"), log)
    assert done == {"code": 0, "stdout": "hej\n", "stderr": "wrong\n"}
    assert agent.run(event("action", command="kill -9 $$"), log)["code"] == 137
    assert not log.all()


def test_a_charm_that_cannot_run_is_a_failed_hook(agent: ModuleType) -> None:
    agent.CHARM.mkdir()
    log = Lines()
    assert agent.run(event("hook"), log)["code"] == 127
    assert "cannot run" in log.all()[0][2]


def test_what_a_hook_leaves_running_does_not_hold_it(agent: ModuleType) -> None:
    agent.CHARM.mkdir()
    done = agent.run(event("action", command="echo done; sleep 30 >/dev/null &"), Lines())
    assert done["code"] == 0
    assert done["stdout"] == "done\n"
