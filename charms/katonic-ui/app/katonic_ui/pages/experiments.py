"""A project's experiments: their runs, and one metric of them over steps."""

import asyncio
from typing import Any

from starlette.responses import Response

from katonic_ui.pages.project import base
from katonic_ui.pages.projects import MENDABLE
from katonic_ui.plot import plot
from katonic_ui.problems import Problem
from katonic_ui.visits import Visit


async def experiments(visit: Visit) -> Response:
    """Answer with one experiment, and with the way to the others."""
    return await _experiments(visit)


async def create(visit: Visit) -> Response:
    """Create an experiment."""
    name = visit.text("name")
    try:
        made = await visit.api.send("POST", f"{base(visit)}/experiments", {"name": name})
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _experiments(visit, problem, name)
    path = f"{visit.request.url.path}?experiment={made['id']}"
    return visit.go(path, f"The experiment {name} is there.")


async def _experiments(visit: Visit, problem: Problem | None = None, name: str = "") -> Response:
    _, project, (found, away) = await asyncio.gather(
        visit.me, visit.api.get(base(visit)), _all(visit)
    )
    values: dict[str, Any] = {"project": project, "experiments": found, "away": away}
    if found:
        asked = visit.asked("experiment")
        chosen = next((it for it in found if it["id"] == asked), found[0])
        values |= {"chosen": chosen, **await _runs(visit, chosen["id"])}
    if visit.target == "chosen" and found:
        return visit.part("project_experiment_part.html", **values)
    return await visit.page(
        "project_experiments.html",
        problem.status if problem else 200,
        part="Experiments",
        problem=problem,
        fields=problem.fields if problem else {},
        name=name,
        **values,
    )


async def _all(visit: Visit) -> tuple[list[Any], Problem | None]:
    """Return the experiments, or why there are none to be had."""
    try:
        return (await visit.api.get(f"{base(visit)}/experiments", limit=200))["items"], None
    except Problem as problem:
        if problem.status != 503:
            raise
        return [], problem


async def _runs(visit: Visit, experiment: str) -> dict[str, Any]:
    key, here = visit.asked("key"), base(visit)
    runs, metrics = await asyncio.gather(
        visit.api.get(f"{here}/runs", experiment=experiment, limit=50),
        visit.api.get(f"{here}/metrics", experiment=experiment, key=key),
    )
    keys = metrics["keys"]
    if keys and metrics["key"] not in keys:
        metrics = await visit.api.get(f"{here}/metrics", experiment=experiment, key=keys[0])
    drawn = plot(metrics["key"], metrics["runs"]) if keys else None
    return {"runs": runs["items"], "keys": keys, "plot": drawn}
