"""The experiments of projects, and the metrics of their runs."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from .. import audit, pages
from ..answers import answer
from ..backend import Backend
from ..callers import Asking, Caller, Parts, project_for
from ..changes import Change
from ..entities import Organization, Project
from ..experiments import Experiment, Metrics, Run
from ..once import Key, Once
from ..pages import Page
from ..problems import declared, not_found
from ..rights import Verb
from ..wire import NewExperiment
from .users import Cursor, Limit

router = APIRouter(prefix="/v1/projects/{project_id}", tags=["experiments"], route_class=Once)

One = Annotated[str | None, Query(max_length=100, description="An experiment's id.")]
MetricKey = Annotated[str | None, Query(max_length=250, pattern=r"^[^\x00]*$")]


async def _found(
    backend: Backend, caller: Caller, project_id: str, verb: Verb
) -> tuple[Project, Organization]:
    project = await project_for(backend, caller, project_id, verb)
    organization = await backend.store.find(Organization, project.organization)
    if organization is None:
        raise not_found("project")
    return project, organization


@router.get("/experiments", response_model=Page[Experiment], responses=declared(403, 404))
async def listed(
    caller: Asking, backend: Parts, project_id: str, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Return a project's experiments, by name."""
    found = await backend.experiments.listed(
        *await _found(backend, caller, project_id, "experiment.read")
    )
    items, following = pages.cut(found, limit, cursor)
    return answer(Page[Experiment](items=items, next=following, total=len(found)))


@router.post(
    "/experiments",
    status_code=201,
    response_model=Experiment,
    responses=declared(403, 404, 409),
)
async def create(
    caller: Asking, backend: Parts, project_id: str, new: NewExperiment, key: Key = None
) -> Response:
    """Make an experiment, to which MLflow's clients log by "<organization>/<project>/<name>"."""
    project, organization = await _found(backend, caller, project_id, "experiment.create")
    made = await backend.experiments.create(project, organization, new.name)
    details = {"experiment": new.name}
    change = Change(project, project, caller.user, "experiment.create", details)
    await audit.write(backend.store, change)
    return answer(made, status=201)


@router.get("/runs", response_model=Page[Run], responses=declared(403, 404))
async def runs(
    caller: Asking,
    backend: Parts,
    project_id: str,
    experiment: One = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return a project's runs, or those of an experiment, the latest first."""
    found = await _found(backend, caller, project_id, "experiment.read")
    items, following = await backend.experiments.runs(*found, experiment, limit, cursor)
    return answer(Page[Run](items=items, next=following))


@router.get("/metrics", response_model=Metrics, responses=declared(403, 404))
async def metrics(
    caller: Asking,
    backend: Parts,
    project_id: str,
    experiment: One = None,
    key: MetricKey = None,
) -> Response:
    """Return a metric over the latest runs, for a plot."""
    found = await _found(backend, caller, project_id, "experiment.read")
    return answer(await backend.experiments.metrics(*found, experiment, key))
