"""A service of Kubernetes, by name and port: Charmed Kubeflow's `k8s-service`."""

from typing import Annotated

import msgspec

from katonic import Databag


class Requirer(Databag):
    """Who wants to know: it has nothing to say."""


class Provider(Databag):
    """Where the service is.

    Attributes:
        name: Its name; ours is the full one, so that it is found from any namespace.
        port: Its port.
    """

    name: str = msgspec.field(name="svc_name")
    port: Annotated[int, msgspec.Meta(ge=1, le=65535, description="1 to 65535")] = msgspec.field(
        name="svc_port"
    )

    @property
    def url(self) -> str:
        """Return where it answers HTTP."""
        return f"http://{self.name}:{self.port}"


EXAMPLES = [Requirer(), Provider(name="mlflow.katonic.svc.cluster.local", port=5000)]
