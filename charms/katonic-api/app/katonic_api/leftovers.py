"""What a deleted project leaves in the bucket and in MLflow, taken away until nothing is left."""

import contextlib

from pymongo.errors import DuplicateKeyError

from .entities import Organization, Project
from .experiments import Experiments
from .files import Files
from .store import Store


async def note(store: Store, project: Project, organization: Organization) -> None:
    """Note a project before it is deleted, lest nobody knows of it then."""
    document = {"project": project.document(), "organization": organization.document()}
    with contextlib.suppress(DuplicateKeyError):
        await store.leftovers.insert_one({"_id": project.id, **document})


async def clear(store: Store, files: Files, experiments: Experiments) -> None:
    """Take away what projects that are gone have left.

    Raises:
        Problem: 503, the bucket or MLflow does not answer.
    """
    async for it in store.leftovers.find({}):
        if await store.find(Project, it["_id"]) is None:
            project = Project.model_validate(it["project"])
            await files.forget(project.id)
            await experiments.forget(project, Organization.model_validate(it["organization"]))
            await store.leftovers.delete_one({"_id": it["_id"]})
