"""A small charm that follows a secret."""

import ops


class Reader(ops.CharmBase):
    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        for event in self.on.events().values():
            if issubclass(event.event_type, (ops.RelationEvent, ops.SecretChangedEvent)):
                framework.observe(event, self._on_event)

    def _on_event(self, event: ops.EventBase) -> None:
        if isinstance(event, ops.RelationBrokenEvent):
            self.unit.status = ops.BlockedStatus("integrate words")
            return
        relation = self.model.get_relation("words")
        if relation is None or not (secret := relation.data[relation.app].get("secret")):
            self.unit.status = ops.WaitingStatus("waiting for words")
            return
        content = self.model.get_secret(id=secret).get_content(refresh=True)
        self.unit.status = ops.ActiveStatus(content["word"])


if __name__ == "__main__":
    ops.main(Reader)
