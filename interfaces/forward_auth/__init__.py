"""Who decides at the gateway whether a request may pass: charmlibs-interfaces-forward-auth."""

from katonic import Databag


class Requirer(Databag, rename="lower"):
    """The gateway.

    Attributes:
        ingress_app_names: The applications that it can protect.
    """

    ingress_app_names: tuple[str, ...]


class Provider(Databag, rename="lower"):
    """Who decides.

    Attributes:
        decisions_address: The URL that is asked about each request, its path appended: an answer
            of 200 lets it pass, any other is what the client gets.
        app_names: The applications that it is willing to protect.
        headers: Those of its answer that the application then gets, instead of the client's.
    """

    decisions_address: str
    app_names: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


EXAMPLES = [
    Requirer(ingress_app_names=("mlflow", "files")),
    Provider(
        decisions_address="http://katonic-ui.katonic.svc.cluster.local:8080/forward-auth",
        app_names=("mlflow", "files"),
        headers=(
            "x-katonic-user",
            "x-katonic-user-id",
            "x-katonic-email",
            "x-katonic-groups",
            "x-katonic-roles",
        ),
    ),
]
