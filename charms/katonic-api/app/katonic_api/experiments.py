"""The projects' experiments, by MLflow's REST API."""

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict

from .entities import Organization, Project
from .pages import cursor_of, token_of
from .problems import Problem, Unavailable, not_found

_TAG = "katonic.project"
_NONE = "Experiments are not connected to this platform yet: its operator has to relate MLflow."
_SILENT = "MLflow, which keeps the experiments, does not answer. Try again soon."
_MOST = 1000
"""Experiments of a project, and runs whose experiments are counted, that are looked at."""

_CURVES = 20
"""Runs that a plot shows at most, the latest."""

_POINTS = 1000
"""Points that each of them has at most, about."""


class Experiment(BaseModel):
    """An experiment; `runs` is how many there are among the project's latest thousand."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    runs: int
    updated: datetime | None


class Run(BaseModel):
    """A run, with the last value of each metric."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    experiment: str
    status: str
    started: datetime | None
    ended: datetime | None
    user: str
    metrics: dict[str, float]
    params: dict[str, str]


class Curve(BaseModel):
    """A metric of a run: step, value and time of each point."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    points: list[tuple[int, float, datetime]]


class Metrics(BaseModel):
    """One metric over runs, and what others there are."""

    model_config = ConfigDict(frozen=True)

    key: str | None
    keys: list[str]
    runs: list[Curve]


class Experiments:
    """MLflow, which knows neither projects nor people; `url` is None where it is not related."""

    def __init__(self, url: str | None, client: httpx2.AsyncClient) -> None:
        self._url, self._client = url, client

    async def listed(self, project: Project, organization: Organization) -> list[Experiment]:
        """Return a project's experiments, by name."""
        found = await self._of(project, organization)
        runs = await self._search(list(found), _MOST) if found else {}
        counts: dict[str, int] = {}
        for it in runs.get("runs", []):
            experiment = it["info"]["experiment_id"]
            counts[experiment] = counts.get(experiment, 0) + 1
        return sorted(
            (
                Experiment(
                    id=key,
                    name=name,
                    runs=counts.get(key, 0),
                    updated=_when(it.get("last_update_time")),
                )
                for key, (name, it) in found.items()
            ),
            key=lambda it: (it.name, it.id),
        )

    async def create(self, project: Project, organization: Organization, name: str) -> Experiment:
        """Make an experiment.

        Raises:
            Problem: 409, there is one of the name.
        """
        tags = [{"key": _TAG, "value": project.id}]
        body = {"name": f"{_prefix(project, organization)}{name}", "tags": tags}
        made = await self._ask("POST", "experiments/create", json=body)
        return Experiment(id=made["experiment_id"], name=name, runs=0, updated=None)

    async def runs(
        self,
        project: Project,
        organization: Organization,
        experiment: str | None,
        limit: int,
        cursor: str | None,
    ) -> tuple[list[Run], str | None]:
        """Return a project's latest runs, and where to go on."""
        chosen = await self._chosen(project, organization, experiment)
        if not chosen:
            return [], None
        found = await self._search(list(chosen), limit, token_of(cursor))
        return [_run(it) for it in found.get("runs", [])], cursor_of(found.get("next_page_token"))

    async def metrics(
        self,
        project: Project,
        organization: Organization,
        experiment: str | None,
        key: str | None,
    ) -> Metrics:
        """Return a metric over the latest runs; the first there is, when none is named."""
        chosen = await self._chosen(project, organization, experiment)
        found = await self._search(list(chosen), 200) if chosen else {}
        runs = [_run(it) for it in found.get("runs", [])]
        keys = sorted({key for it in runs for key in it.metrics})
        key = key or (keys[0] if keys else None)
        having = [it for it in runs if key in it.metrics][:_CURVES]
        curves = await asyncio.gather(*(self._curve(it, str(key)) for it in having))
        return Metrics(key=key, keys=keys, runs=list(curves))

    async def forget(self, project: Project, organization: Organization) -> None:
        """Delete a project's experiments, as far as MLflow deletes: it can restore them."""
        if self._url is None:
            return
        for key in await self._of(project, organization):
            await self._ask("POST", "experiments/delete", json={"experiment_id": key})

    async def _chosen(
        self, project: Project, organization: Organization, experiment: str | None
    ) -> Mapping[str, Any]:
        found = await self._of(project, organization)
        if experiment is None:
            return found
        if experiment not in found:
            raise not_found("experiment")
        return {experiment: found[experiment]}

    async def _of(
        self, project: Project, organization: Organization
    ) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Return a project's experiments by id, each with its name in the project.

        They are those with the project's tag, and those that MLflow's own clients made under
        the project's name without one.
        """
        prefix = _prefix(project, organization)
        queries = (f"tags.`{_TAG}` = '{project.id}'", f"name LIKE '{prefix}%'")
        answers = await asyncio.gather(
            *(
                self._ask(
                    "POST", "experiments/search", json={"max_results": _MOST, "filter": query}
                )
                for query in queries
            )
        )
        found = {}
        for it in (it for answer in answers for it in answer.get("experiments", [])):
            tags = {tag["key"]: tag["value"] for tag in it.get("tags", [])}
            if tags.get(_TAG, project.id) == project.id:
                found[it["experiment_id"]] = it["name"].removeprefix(prefix), it
        return found

    async def _search(
        self, experiments: list[str], limit: int, token: str | None = None
    ) -> dict[str, Any]:
        return await self._ask(
            "POST",
            "runs/search",
            json={
                "experiment_ids": experiments,
                "max_results": limit,
                "order_by": ["attributes.start_time DESC"],
                **({"page_token": token} if token else {}),
            },
        )

    async def _curve(self, run: Run, key: str) -> Curve:
        query = {"run_id": run.id, "metric_key": key, "max_results": 25_000}
        found = await self._ask("GET", "metrics/get-history", params=query)
        points = sorted(
            (int(it.get("step", 0)), float(it["value"]), _time(it["timestamp"]))
            for it in found.get("metrics", [])
            if math.isfinite(float(it["value"]))
        )
        every = 1 + len(points) // _POINTS
        kept = [it for n, it in enumerate(points) if n % every == 0 or n == len(points) - 1]
        return Curve(id=run.id, name=run.name, points=kept)

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        if self._url is None:
            raise Unavailable(_NONE)
        url = f"{self._url}/api/2.0/mlflow/{path}"
        try:
            answer = await self._client.request(method, url, timeout=15, **more)
            said = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise Unavailable(_SILENT) from error
        if answer.status_code < 400:
            return said
        code = said.get("error_code")
        if code == "RESOURCE_ALREADY_EXISTS":
            raise Problem(409, "There is an experiment of this name, or there was one.")
        if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise Problem(422, str(said.get("message", "MLflow does not allow this."))[:300])
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise not_found("experiment")
        raise Unavailable(_SILENT)


def _prefix(project: Project, organization: Organization) -> str:
    return f"{organization.name}/{project.name}/"


def _run(it: Mapping[str, Any]) -> Run:
    info, data = it["info"], it.get("data", {})
    return Run(
        id=info["run_id"],
        name=info.get("run_name", ""),
        experiment=info["experiment_id"],
        status=info.get("status", ""),
        started=_when(info.get("start_time")),
        ended=_when(info.get("end_time")),
        user=info.get("user_id", ""),
        metrics={
            it["key"]: value
            for it in data.get("metrics", [])
            if math.isfinite(value := float(it["value"]))
        },
        params={it["key"]: it["value"] for it in data.get("params", [])},
    )


def _time(milliseconds: int | str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _when(milliseconds: int | str | None) -> datetime | None:
    return _time(milliseconds) if milliseconds else None
