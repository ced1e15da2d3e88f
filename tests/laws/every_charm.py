"""Every charm of the house, and the state in which nothing is missing to it."""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ops
import yaml
from ops import testing

from katonic import wire

ROOT = Path(__file__).parents[2]
MODEL = "lab"
NAMES = sorted(path.parent.name for path in ROOT.glob("charms/*/charmcraft.yaml"))


@dataclasses.dataclass(frozen=True)
class Charm:
    """A charm's class, what its charmcraft.yaml says, and the world around its workload."""

    name: str
    cls: type[ops.CharmBase]
    metadata: dict[str, Any]
    world: ModuleType

    @property
    def required(self) -> list[str]:
        """Return the endpoints that the user has to integrate."""
        return [
            name
            for name, it in self.metadata.get("requires", {}).items()
            if not it.get("optional", False)
        ]

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that a user has to set."""
        return getattr(self.world, "OPTIONS", {})

    @property
    def goes_on_without(self) -> frozenset[str]:
        """Return the endpoints of `required` whose lack its workload itself tells its users."""
        return getattr(self.world, "RUNS_WITHOUT", frozenset())

    @property
    def images(self) -> dict[str, str]:
        """Return the image of each of its containers."""
        containers, resources = self.metadata.get("containers", {}), self.metadata["resources"]
        return {n: resources[it["resource"]]["upstream-source"] for n, it in containers.items()}

    def context(self, unit: int = 0) -> testing.Context:
        """Return a context in which one unit of the charm runs."""
        parts = {key: self.metadata.get(key) for key in ("config", "actions")}
        meta = {key: it for key, it in self.metadata.items() if key not in parts}
        return testing.Context(self.cls, meta=meta, unit_id=unit, **parts)  # pyright: ignore

    def complete(self, scratch: Path) -> testing.State:
        """Return the state of a leader whose every endpoint says what the interface allows."""
        relations: set[testing.RelationBase] = set()
        secrets: set[testing.Secret] = set()
        identifier = 0
        for role, far in (("requires", "Provider"), ("provides", "Requirer")):
            for endpoint, it in self.metadata.get(role, {}).items():
                identifier += 1
                app, unit, more = far_side(it["interface"], far)
                secrets |= more
                relations.add(
                    testing.Relation(
                        endpoint,
                        id=identifier,
                        remote_app_name=f"far-{endpoint}",
                        remote_app_data=app,
                        remote_units_data={0: unit},
                    )
                )
        for endpoint in self.metadata.get("peers", {}):
            identifier += 1
            relations.add(testing.PeerRelation(endpoint, id=identifier))
        return testing.State(
            leader=True,
            planned_units=1,
            config=self.options,
            model=testing.Model(MODEL, type="kubernetes"),
            resources={self._resource(name, scratch) for name in self._images_alone},
            relations=relations,
            secrets=secrets,
            containers={
                testing.Container(
                    name,
                    can_connect=True,
                    execs=frozenset(self.world.EXECS),
                    mounts={"files": mount(scratch / name)},
                )
                for name in self.metadata.get("containers", {})
            },
        )

    @property
    def _images_alone(self) -> list[str]:
        """Return the images that are no container's, which the charm reads for itself."""
        used = {it["resource"] for it in self.metadata.get("containers", {}).values()}
        return sorted(self.metadata["resources"].keys() - used)

    def _resource(self, name: str, scratch: Path) -> testing.Resource:
        """Return an image as Juju gives it to a charm."""
        path = scratch / f"{name}.yaml"
        path.write_text(f"registrypath: {self.metadata['resources'][name]['upstream-source']}\n")
        return testing.Resource(name=name, path=path)

    def serve(self) -> contextlib.AbstractContextManager[None]:
        """Play the workload's own API for as long as the context lasts."""
        return self.world.serve()


def mount(directory: Path) -> testing.Mount:
    """Return the directory of a container that its Pebble may write."""
    directory.mkdir(exist_ok=True)
    return testing.Mount(location="/charm/container", source=directory)


def far_side(
    interface: str, side: str
) -> tuple[dict[str, str], dict[str, str], set[testing.Secret]]:
    """Return what the interface's example says: application databag, unit databag, secrets."""
    bags: dict[str, dict[str, str]] = {"app": {}, "unit": {}}
    secrets: set[testing.Secret] = set()

    def seal(_: str, content: dict[str, str]) -> str:
        secret = testing.Secret(content)
        secrets.add(secret)
        return secret.id

    module = importlib.import_module(f"interfaces.{interface.replace('-', '_')}")
    for bag in module.EXAMPLES:
        if not type(bag).__name__.startswith(side) or (bag.scope == "app" and bags["app"]):
            continue
        bags[bag.scope] |= wire.encode(bag, seal)
    return bags["app"], bags["unit"], secrets


@functools.cache
def load(name: str) -> Charm:
    """Return a charm of the house, each loaded with its own modules on the path."""
    folder = ROOT / "charms" / name
    metadata = yaml.safe_load((folder / "charmcraft.yaml").read_text())
    with _own_modules(folder):
        module = _module(f"{name}_charm", folder / "src/charm.py")
        world = _module(f"{name}_world", folder / "tests/world.py")
    (cls,) = (
        it
        for it in vars(module).values()
        if isinstance(it, type) and issubclass(it, ops.CharmBase) and it is not ops.CharmBase
    )
    return Charm(name, cls, metadata, world)


@contextlib.contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """Have the charm's src on the path; its modules' names mean nothing to the next charm."""
    before = set(sys.modules)
    paths = [str(folder / "src"), str(folder / "tests")]
    sys.path[:0] = paths
    try:
        yield
    finally:
        for path in paths:
            sys.path.remove(path)
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if origin.startswith(str(folder)) and not name.startswith(f"{folder.name}_"):
                del sys.modules[name]


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
