"""Events: what a unit is told, in which order, and how a hook sees it in its environment."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.model import Membership, Model, Relation, Unit

VERSION = "4.0.14"


@dataclass(frozen=True)
class Event:
    """One thing that a unit is told; the fields that do not concern `kind` are empty.

    Kinds are Juju's hook names without the name of endpoint, container or storage ("install",
    "relation-changed", "pebble-ready", "storage-attached"), and "action", which is `juju exec`
    too (action "juju-exec").
    """

    kind: str
    relation_id: int | None = None
    endpoint: str = ""
    remote_app: str = ""
    remote_unit: str = ""
    departing_unit: str = ""
    workload: str = ""
    notice_id: str = ""
    notice_type: str = ""
    notice_key: str = ""
    check_name: str = ""
    storage_id: str = ""
    secret_id: str = ""
    secret_label: str = ""
    secret_revision: int | None = None
    action: str = ""
    task: str = ""
