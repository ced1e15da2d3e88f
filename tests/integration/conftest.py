"""The platform for every test, and clients that go with the session."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jubilant
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from deployed import (
    BINARY,
    MODEL,
    ON_SANDBOX,
    ROOT,
    Platform,
    charm_path,
    deploy_on_juju,
    deploy_on_sandbox,
    image,
)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Yield the deployed platform, every application active."""
    juju = jubilant.Juju(model=MODEL, cli_binary=BINARY, wait_timeout=300)
    if ON_SANDBOX:
        deploy_on_sandbox()
    else:
        jubilant.Juju(cli_binary=BINARY).add_model(MODEL)
        deploy_on_juju(juju)
    deployed = Platform(juju)
    deployed.settle(timeout=1200)
    yield deployed
    if not os.environ.get("KEEP_MODEL"):
        juju.destroy_model(MODEL, destroy_storage=True, force=True)


@pytest.fixture
def juju(platform: Platform) -> jubilant.Juju:
    """Return the client of the platform's model."""
    return platform.juju


@pytest.fixture(scope="session")
def deploy_client(platform: Platform) -> Iterator[Callable[[str], str]]:
    """Return a function that deploys the client charm under a name; all are gone in the end."""
    names: list[str] = []

    def deploy(name: str, **config: str | bool) -> str:
        platform.juju.deploy(
            charm_path(ROOT / "tests/charms/client"),
            name,
            config=config,
            resources={"box-image": image("charm-base", "ubuntu:24.04")},
            constraints={"tags": "katonic.ai/node-pool=compute"},
        )
        names.append(name)
        platform.settle(name)
        return name

    yield deploy
    for name in names:
        with contextlib.suppress(jubilant.CLIError):
            platform.juju.remove_application(name, destroy_storage=True)
