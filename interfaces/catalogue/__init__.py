"""A tile on the platform's page: `catalogue` of the Canonical Observability Stack."""

from katonic import Databag


class Requirer(Databag, rename="lower"):
    """The tile of an application.

    Attributes:
        name: What it is called on the page.
        url: Where a browser finds it.
        icon: A name of the Material Design icons.
        description: What one does with it, a sentence.
        health: Where it says within the cluster that it is well, by any answer below 400; ours,
            others leave it out.
    """

    name: str
    url: str
    icon: str
    description: str = ""
    health: str | None = None


class Provider(Databag):
    """The page: it has nothing to say."""


EXAMPLES = [
    Requirer(
        name="Experiments",
        description="Track runs, compare metrics and register models.",
        url="https://mlops.example/mlflow",
        icon="flask",
        health="http://mlflow.katonic.svc.cluster.local:5000/health",
    ),
    Provider(),
]
