"""The services of the platform."""

import hmac

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..answers import answer
from ..callers import Asking, Parts
from ..pages import Page
from ..problems import Problem
from ..services import Service, Tiles

router = APIRouter(tags=["services"])


@router.get("/v1/services", response_model=Page[Service])
async def listed(caller: Asking, backend: Parts) -> Response:
    """Return the services of the platform, and how each was when it was last looked at."""
    items = backend.services.seen
    return answer(Page[Service](items=items, total=len(items)))


@router.get("/operator/services", include_in_schema=False)
async def told(request: Request, backend: Parts) -> Response:
    """Return to the charm what it has told."""
    _check_operator(request, backend.settings.operator_token)
    return answer(await backend.services.told())


@router.put("/operator/services", include_in_schema=False, status_code=204)
async def tell(request: Request, backend: Parts, tiles: Tiles) -> Response:
    """Hear from the charm which services there are."""
    _check_operator(request, backend.settings.operator_token)
    await backend.services.tell(tiles)
    return Response(status_code=204)


def _check_operator(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").encode()
    if not token or not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise Problem(401, "This is the charm's alone.", {"WWW-Authenticate": "Bearer"})
