"""Everything a charm of this platform needs beside ops."""

from katonic.plan import FILES, Container, Effect, File, Invalid, NotYet, Plan, Service, Step
from katonic.reconciler import Reconciler, load_config, service_host
from katonic.relations import Endpoint
from katonic.secrets import Seed, StoredSecret, given
from katonic.wire import Config, Databag, Secret
from katonic.workload import memory_limit

__all__ = [
    "FILES",
    "Config",
    "Container",
    "Databag",
    "Effect",
    "Endpoint",
    "File",
    "Invalid",
    "NotYet",
    "Plan",
    "Reconciler",
    "Secret",
    "Seed",
    "Service",
    "Step",
    "StoredSecret",
    "given",
    "load_config",
    "memory_limit",
    "service_host",
]
