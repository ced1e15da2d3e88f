#!/usr/bin/env python3
"""Node pools: every application on its pool of nodes, and the truth about who is where."""

from dataclasses import dataclass, replace
from typing import Any

import deployment
import follower
import labels
import ops
import tables
from controller.pools import Pool, WrongPoolsError, parse
from controller.verdict import Verdict
from deployment import Controller, Image

from katonic import (
    Config,
    Effect,
    Invalid,
    NotYet,
    Plan,
    Reconciler,
    kubernetes,
    load_config,
)


class Options(Config):
    """The charm's options."""

    pools: str


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        controller: How the controller is to run.
        verdict: What it says of the cluster; None while it says nothing.
    """

    controller: Controller
    verdict: Verdict | None


SILENCE = "waiting for the controller to speak"
STATUSES = {
    "active": ops.ActiveStatus,
    "waiting": ops.WaitingStatus,
    "blocked": ops.BlockedStatus,
}


def plan(state: State) -> Plan:
    """Return what the unit wants: the controller, who hears of it, and that everyone is told."""
    wanted = Plan(
        containers={"node-pools": follower.container(state.controller)},
        ports=[deployment.PORT],
        resources=deployment.objects(state.controller),
    )
    if state.verdict is None:
        hold = Effect("hold what was offered", wait)
        return replace(wanted, effects=[hold], status=ops.WaitingStatus(SILENCE))
    return replace(
        wanted,
        offers={"node-pools": follower.offer(state.verdict)},
        status=STATUSES[state.verdict.level](state.verdict.message),
    )


def wait() -> None:
    """Raise NotYet: nothing that comes after is done."""
    raise NotYet(SILENCE)


class NodePoolsCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        framework.observe(self.on["show_pools"].action, self._on_show_pools)
        framework.observe(self.on["label_nodes"].action, self._on_label_nodes)
        framework.observe(self.on["drain_check"].action, self._on_drain_check)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: The option says what is not allowed.
            NotYet: Kubernetes does not answer.
        """
        pools = self._pools()
        here = Controller(self.app.name, self.model.name, self._image(), pools)
        return State(here, follower.verdict())

    def _pools(self) -> tuple[Pool, ...]:
        try:
            return parse(load_config(self, Options).pools)
        except WrongPoolsError as reason:
            raise Invalid(f"config {' '.join(str(reason).split())}") from None  # one line

    def _image(self) -> Image:
        """Return the image that this unit's pod runs."""
        from lightkube.resources.core_v1 import Pod

        with kubernetes.client(self.app.name, self.model.name) as cluster:
            spec: Any = cluster.get(Pod, self.unit.name.replace("/", "-")).spec
        (name,) = (it.image for it in spec.containers if it.name == "node-pools")
        return Image(name, tuple(it.name for it in spec.imagePullSecrets or ()))

    def _on_show_pools(self, event: ops.ActionEvent) -> None:
        if verdict := follower.verdict():
            show = {"table": tables.table, "json": tables.as_json}
            form = event.params.get("format", "table")
            event.set_results({form: show[form](verdict)})
        else:
            event.fail("the controller says nothing yet; see juju status")

    def _on_label_nodes(self, event: ops.ActionEvent) -> None:
        dry = event.params.get("dry-run", True)
        try:
            with kubernetes.client(self.app.name, self.model.name) as cluster:
                changes = labels.changes(cluster, self._pools(), event.params)
                if not dry:
                    labels.apply(cluster, changes)
        except (Invalid, NotYet) as reason:
            event.fail(str(reason))
        else:
            event.set_results({"dry-run": str(dry).lower(), "nodes": "\n".join(map(str, changes))})

    def _on_drain_check(self, event: ops.ActionEvent) -> None:
        try:
            drain = follower.drain(event.params["node"])
        except NotYet as reason:
            event.fail(str(reason))
        else:
            event.set_results({"message": drain["message"], "pods": tables.moves(drain)})


if __name__ == "__main__":
    ops.main(NodePoolsCharm)
