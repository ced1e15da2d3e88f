"""The images that are no container's of the charm: Juju gives their names, and a login with it."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ops
import yaml

from katonic import NotYet


@dataclass(frozen=True, repr=False)
class Image:
    """An image, and with whom one gets it where not everybody may."""

    name: str
    username: str = ""
    password: str = ""


def fetch(model: ops.Model, resource: str) -> Image:
    """Return the image that a resource names.

    Raises:
        NotYet: Juju does not give it now.
    """
    try:
        said = yaml.safe_load(model.resources.fetch(resource).read_text())
    except (NameError, OSError, ops.ModelError) as error:
        raise NotYet(f"waiting for the resource {resource}: {error}") from error
    return Image(said["registrypath"], said.get("username") or "", said.get("password") or "")


def logins(name: str, images: Sequence[Image]) -> list[Any]:
    """Return the secret by which Kubernetes pulls the images; none where everybody may."""
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Secret

    auths = {_registry(it.name): _login(it) for it in images if it.username}
    if not auths:
        return []
    content = base64.b64encode(json.dumps({"auths": auths}, sort_keys=True).encode()).decode()
    return [
        Secret(
            metadata=ObjectMeta(name=name),
            type="kubernetes.io/dockerconfigjson",
            data={".dockerconfigjson": content},
        )
    ]


def _registry(image: str) -> str:
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named and first != "docker.io" else "https://index.docker.io/v1/"


def _login(image: Image) -> Mapping[str, str]:
    both = f"{image.username}:{image.password}".encode()
    return {
        "username": image.username,
        "password": image.password,
        "auth": base64.b64encode(both).decode(),
    }
