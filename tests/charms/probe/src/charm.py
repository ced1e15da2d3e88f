#!/usr/bin/env python3
"""A charm that records what it sees: each event goes to the log, with what came with it."""

import json
import logging
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import ops

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ProbeCharm(ops.CharmBase):
    """Logs every event and fails when it is told to."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        for name in self.on.events():
            if name != "collect_metrics":
                framework.observe(getattr(self.on, name), self._record)

    def _record(self, event: ops.EventBase) -> None:
        hook = os.environ.get("JUJU_HOOK_NAME", "")
        if isinstance(event, ops.LifecycleEvent):
            return
        if hook and hook == self.config["fail"]:
            self.unit.status = ops.BlockedStatus("failed as asked")
            if self.unit.is_leader():
                self.model.relations["ring"][0].data[self.app]["lost"] = hook
            sys.exit(3)
        if hook == "config-changed" and self.config["word"] == "slow":
            time.sleep(2)
        about = {k[5:]: v for k, v in sorted(os.environ.items()) if k.startswith("JUJU_")}
        keep = ("RELATION_ID", "REMOTE_APP", "REMOTE_UNIT", "DEPARTING_UNIT", "WORKLOAD_NAME")
        keep += (
            "NOTICE_KEY",
            "PEBBLE_CHECK_NAME",
            "STORAGE_ID",
            "SECRET_LABEL",
            "SECRET_REVISION",
        )
        shown = {k: v for k, v in about.items() if k in keep and v}
        logging.getLogger("probe").info("seen %s %s", hook or "action", json.dumps(shown))
        if isinstance(event, ops.PebbleReadyEvent):
            self._start(event.workload)
        if isinstance(event, ops.ActionEvent):
            self._act(event)
        else:
            self.unit.status = ops.ActiveStatus()

    def _start(self, container: ops.Container) -> None:
        sleep: ops.pebble.ServiceDict = {"override": "replace", "command": "sleep infinity"}
        sleep["startup"] = "enabled"
        container.add_layer("probe", {"services": {"sleep": sleep}}, combine=True)
        container.replan()

    def _act(self, event: ops.ActionEvent) -> None:
        if os.environ["JUJU_ACTION_NAME"] == "cluster":
            event.set_results({"code": self._nodes()})
            return
        event.log(f"echoing {event.params['word']}")
        event.set_results({"word": event.params["word"], "nested.key": "value"})
        if event.params["exit"]:
            print("leaving")
            sys.exit(event.params["exit"])

    def _nodes(self) -> str:
        request = urllib.request.Request("https://kubernetes.default.svc/api/v1/nodes")
        request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
        trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        try:
            with urllib.request.urlopen(request, context=trust) as answer:
                return str(answer.status)
        except urllib.error.HTTPError as error:
            return str(error.code)


if __name__ == "__main__":
    ops.main(ProbeCharm)
