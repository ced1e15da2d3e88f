"""A small charm with what makes the order of events matter: secrets, readiness, leadership."""

import logging
import urllib.request

import ops

logger = logging.getLogger(__name__)

EVENTS = (
    ops.ConfigChangedEvent,
    ops.LeaderElectedEvent,
    ops.RelationEvent,
    ops.StartEvent,
    ops.UpgradeCharmEvent,
    ops.WorkloadEvent,
)


class Store(ops.CharmBase):
    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        framework.observe(self.on.rotate_action, self._on_rotate)
        framework.observe(self.on.secret_remove, self._on_secret_remove)
        for event in self.on.events().values():
            if issubclass(event.event_type, EVENTS):
                framework.observe(event, self._on_event)

    def _on_event(self, event: ops.EventBase) -> None:
        container = self.unit.get_container("store")
        if not container.can_connect():
            self.unit.status = ops.WaitingStatus("waiting for Pebble")
            return
        container.add_layer("store", self._layer(), combine=True)
        container.replan()
        try:
            urllib.request.urlopen("http://localhost:8000/").close()
        except OSError:
            container.start("notify")
            self.unit.status = ops.WaitingStatus("store is starting")
            return
        container.exec(["remember", self.unit.name]).wait()
        self.unit.set_ports(8000)
        if self.unit.is_leader():
            for relation in self.model.relations["words"]:
                if "secret" not in relation.data[self.app]:
                    self._offer(relation)
        self.unit.status = ops.ActiveStatus()

    def _layer(self) -> ops.pebble.LayerDict:
        notify = "sh -c 'sleep 1; exec /charm/bin/pebble notify example.com/ready'"
        environment = {"PREFIX": str(self.config["prefix"])}
        serve: ops.pebble.ServiceDict = {
            "override": "replace",
            "startup": "enabled",
            "command": "serve",
            "environment": environment,
        }
        return {
            "services": {
                "store": serve,
                "notify": {"override": "replace", "command": notify},
            },
            "checks": {
                "store": {"override": "replace", "http": {"url": "http://localhost:8000/"}}
            },
        }

    def _offer(self, relation: ops.Relation) -> None:
        content = {"word": f"{self.config['prefix']}-{relation.app.name}"}
        secret = self.app.add_secret(content, label=f"words-{relation.id}")
        secret.grant(relation)
        relation.data[self.app]["secret"] = secret.id or ""

    def _on_rotate(self, event: ops.ActionEvent) -> None:
        for relation in self.model.relations["words"]:
            secret = self.model.get_secret(label=f"words-{relation.id}")
            content = secret.peek_content()
            secret.set_content({"word": f"{content['word']}!"})
            logger.info("rotated %s", secret.label)
        event.set_results({"rotated": len(self.model.relations["words"])})

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()


if __name__ == "__main__":
    ops.main(Store)
