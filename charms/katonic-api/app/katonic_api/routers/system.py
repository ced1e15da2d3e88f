"""What machines ask: whether it lives, whether it is ready, its metrics."""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pymongo.errors import PyMongoError
from starlette.responses import PlainTextResponse, Response

from .. import metrics
from ..callers import Parts

router = APIRouter(tags=["system"])


@router.get("/health", response_class=PlainTextResponse)
async def health() -> Response:
    """Return that the server lives."""
    return PlainTextResponse("ok\n")


@router.get(
    "/ready",
    response_class=PlainTextResponse,
    responses={503: {"content": {"text/plain": {}}, "description": "Why it is not."}},
)
async def ready(request: Request, backend: Parts) -> Response:
    """Return that the server can answer: its database does, and is of the right version."""
    if request.app.state.leaving.is_set():
        return PlainTextResponse("going away\n", 503)
    try:
        reason = await backend.readiness()
    except (PyMongoError, TimeoutError):
        reason = "the database does not answer"
    return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def prometheus() -> Response:
    """Return the server's metrics, of all its processes."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
