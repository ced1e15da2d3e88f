import re

import pytest
import yaml

from sandbox.images import RECIPES
from sandbox.images.layers import Source


@pytest.mark.parametrize(
    "name", ["istio-ingress", "katonic-api", "katonic-ui", "minio", "mlflow", "node-pools"]
)
def test_a_rock_is_of_the_version_of_the_sandboxs_image(name: str) -> None:
    rock = yaml.safe_load(Source(f"charms/{name}/rockcraft.yaml").path.read_text())

    assert rock["version"] == RECIPES[name].version


def test_the_rock_of_minio_is_built_from_the_same_module_and_says_so() -> None:
    rock = yaml.safe_load(Source("charms/minio/rockcraft.yaml").path.read_text())
    build = rock["parts"]["minio"]["override-build"]
    layer = repr(RECIPES["minio"].layer)

    assert (pinned := re.search(r"github.com/minio/minio@(\S+)", build))
    assert f"version='{pinned[1]}'" in layer
    stated = re.findall(r"-X \$name\.(\w+=\S+?)[ \"]", build)
    assert len(stated) == 3
    assert all(f"-X github.com/minio/minio/cmd.{it}" in layer for it in stated)


def test_the_lock_of_mlflow_pins_its_version_and_what_its_charm_needs() -> None:
    lock = Source("charms/mlflow/mlflow.lock").path.read_text()

    assert f"\nmlflow=={RECIPES['mlflow'].version} " in lock
    for package in ("psycopg2-binary", "boto3", "prometheus-flask-exporter"):
        assert re.search(rf"^{package}==\S+ \\\n +--hash=sha256:", lock, re.M)


def test_the_lock_of_node_pools_has_what_its_controller_imports() -> None:
    lock = Source("charms/node-pools/node-pools.lock").path.read_text()

    for package in ("lightkube", "httpx2", "msgspec", "starlette", "uvicorn"):
        assert re.search(rf"^{package}==\S+ \\\n +--hash=sha256:", lock, re.M)


def test_the_image_of_node_pools_has_every_file_of_the_controller() -> None:
    controller = Source("charms/node-pools/src/controller").path
    layer = repr(RECIPES["node-pools"].layer)

    assert all(
        f"/opt/node-pools/app/controller/{it.name}" in layer
        for it in controller.iterdir()
        if it.is_file()
    )
