"""MLflow as the server meets it: a few experiments in memory, that answers as 3.17 was seen to."""

import json
import math
import re
from typing import Any

import httpx2

TIME = 1_790_000_000_000


class MLflow:
    """Experiments and their runs."""

    def __init__(self) -> None:
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.history: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def experiment(self, name: str, **tags: str) -> str:
        """Make an experiment, and return its id."""
        identifier = str(len(self.experiments) + 1)
        self.experiments[identifier] = {
            "experiment_id": identifier,
            "name": name,
            "lifecycle_stage": "active",
            "last_update_time": TIME,
            "tags": [{"key": key.replace("_", "."), "value": it} for key, it in tags.items()],
        }
        return identifier

    def run(self, experiment: str, name: str, **metrics: list[float]) -> str:
        """Log a run, and return its id."""
        identifier = f"run-{len(self.runs)}"
        info = {
            "run_id": identifier,
            "run_name": name,
            "experiment_id": experiment,
            "status": "FINISHED",
            "start_time": TIME,
            "user_id": "ada",
        }
        last = [{"key": key, "value": _number(it[-1])} for key, it in metrics.items()]
        data = {"metrics": last, "params": [{"key": "rate", "value": "0.1"}]}
        self.runs.insert(0, {"info": info, "data": data})
        for key, values in metrics.items():
            self.history[identifier, key] = [
                {"key": key, "value": _number(value), "step": step, "timestamp": TIME + step}
                for step, value in enumerate(values)
            ]
        return identifier

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of the server's."""
        said: dict[str, Any] = dict(request.url.params)
        if request.content:
            said = json.loads(request.content)
        match request.url.path.removeprefix("/api/2.0/mlflow/"):
            case "experiments/search":
                found = [it for it in self.experiments.values() if self._matches(it, said)]
                return httpx2.Response(200, json={"experiments": found} if found else {})
            case "experiments/create":
                if any(it["name"] == said["name"] for it in self.experiments.values()):
                    code = "RESOURCE_ALREADY_EXISTS"
                    return httpx2.Response(400, json={"error_code": code, "message": "exists"})
                identifier = self.experiment(said["name"])
                self.experiments[identifier]["tags"] = said["tags"]
                return httpx2.Response(200, json={"experiment_id": identifier})
            case "experiments/delete":
                self.experiments[said["experiment_id"]]["lifecycle_stage"] = "deleted"
                return httpx2.Response(200, json={})
            case "runs/search":
                wanted, cursor = said["experiment_ids"], said.get("page_token", "0")
                if not cursor.isdecimal():  # as MLflow answers "null" and "bnVsbA=="
                    return httpx2.Response(500, json={"error_code": "INTERNAL_ERROR"})
                found = [it for it in self.runs if it["info"]["experiment_id"] in wanted]
                start = int(cursor)
                end = start + said["max_results"]
                more = {"next_page_token": str(end)} if end < len(found) else {}
                return httpx2.Response(200, json={"runs": found[start:end], **more})
            case "metrics/get-history":
                found = self.history[said["run_id"], said["metric_key"]]
                return httpx2.Response(200, json={"metrics": found})
        return httpx2.Response(404, json={"error_code": "ENDPOINT_NOT_FOUND"})

    def _matches(self, experiment: dict[str, Any], said: dict[str, Any]) -> bool:
        if experiment["lifecycle_stage"] != "active":
            return False
        query = said["filter"]
        if found := re.fullmatch(r"tags\.`(.+)` = '(.+)'", query):
            return {"key": found[1], "value": found[2]} in experiment["tags"]
        found = re.fullmatch(r"name LIKE '([^%]+)%'", query)
        return bool(found and experiment["name"].startswith(found[1]))


def _number(value: float) -> float | str:
    """Return a number as protobuf writes it in JSON."""
    return value if math.isfinite(value) else str(value).replace("nan", "NaN")
