"""The models of one user on disk: each is a file that only its user reads, and a log beside it."""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from sandbox import controller, views
from sandbox.model import Model, ModelError

LOG_SIZE = 32 << 20
"""Bytes of a model's log, after which a new one is begun; the one before is kept."""


class Store:
    """The models by their ids; `ending`: of those that end, whether their storage goes too."""

    def __init__(self, home: Path, api_address: str) -> None:
        self.home, self.api_address = home, api_address
        self.models: dict[str, Model] = {}
        self.ending: dict[str, bool] = {}
        self._saved: dict[str, bytes] = {}
        for folder in ("models", "charms", "log", "resources"):
            (home / folder).mkdir(mode=0o700, exist_ok=True)
        for path in sorted((home / "models").glob("*.json")):
            self.adopt(Model.from_json(path.read_bytes()))
        for path in (home / "models").glob("*.ending"):
            self.ending[path.stem] = json.loads(path.read_bytes())

    def adopt(self, model: Model) -> Model:
        """Take a model in and give it its log and the controller's address."""
        path = self.home / "log" / f"{model.uuid}.log"
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_SIZE, backupCount=1)
        log = logging.Logger(model.uuid)
        log.addHandler(handler)

        def write_log(entity: str, level: str, module: str, text: str) -> None:
            line = {"at": time.time(), "entity": entity, "level": level}
            log.info("%s", json.dumps({**line, "module": module, "message": text}))

        model.write_log, model.api_address = write_log, self.api_address
        self.models[model.uuid] = model
        return model

    def by_name(self, name: str) -> Model:
        """Return a model by its name, with or without its owner; raises ModelError."""
        for model in self.models.values():
            if model.name == name.removeprefix("admin/"):
                return model
        raise ModelError(f"model {views.CONTROLLER}:{name} not found")

    def add(self, name: str, settings: Mapping[str, str]) -> Model:
        """Add a model; raises ModelError when there is one of that name."""
        if any(model.name == name for model in self.models.values()):
            raise ModelError(f"model admin/{name} already exists (already exists)")
        return self.adopt(Model(name, str(uuid.uuid4()), time.time(), settings=dict(settings)))

    def save(self, model: Model) -> bool:
        """Put a model on disk; return whether it differs from what was there."""
        data = model.to_json()
        if self._saved.get(model.uuid) == data or model.uuid not in self.models:
            return False
        controller.write(self.home / "models" / f"{model.uuid}.json", data)
        self._saved[model.uuid] = data
        return True

    def end(self, model: Model, destroy_storage: bool, release_storage: bool, force: bool) -> None:
        """Begin the end of a model: its applications go first, and by force at once."""
        if model.storage and not (destroy_storage or release_storage):
            raise ModelError(
                f'cannot destroy model "{model.name}": the model has persistent storage '
                "remaining: use --destroy-storage or --release-storage"
            )
        mark = self.home / "models" / f"{model.uuid}.ending"
        controller.write(mark, json.dumps(destroy_storage).encode())
        self.ending[model.uuid] = destroy_storage
        for name in list(model.applications):
            if name in model.applications:
                model.remove_application(name, destroy_storage=destroy_storage, force=force)

    def forget(self, model: Model) -> None:
        """Remove a model whose end has come, and the charms that no other model uses."""
        del self.models[model.uuid], self.ending[model.uuid]
        self._saved.pop(model.uuid, None)
        used = {
            application.charm.path
            for other in self.models.values()
            for application in other.applications.values()
        }
        for path in (self.home / "models").glob(f"{model.uuid}.*"):
            path.unlink()
        for path in (self.home / "charms").iterdir():
            if path not in used:
                path.unlink()
