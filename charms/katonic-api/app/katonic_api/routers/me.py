"""The caller."""

from fastapi import APIRouter
from starlette.responses import Response

from .. import rights
from ..answers import answer
from ..backend import Backend
from ..callers import Asking, Caller, Parts
from ..once import Key, Once
from ..problems import declared
from ..wire import Me
from .users import bodies

router = APIRouter(prefix="/v1/me", tags=["me"], route_class=Once)


@router.get("", response_model=Me)
async def read(caller: Asking, backend: Parts) -> Response:
    """Return who you are, and what you may do. The first time makes you a user."""
    return answer(await _me(backend, caller))


@router.post("/sign-out-everywhere", status_code=204, responses=declared(409))
async def sign_out_everywhere(caller: Asking, backend: Parts, key: Key = None) -> Response:
    """End all of your sessions; tokens that are out last until they expire."""
    await backend.people.sign_out(caller.user.id)
    return Response(status_code=204)


async def _me(backend: Backend, caller: Caller) -> Me:
    (body,) = await bodies(backend, [caller.user])
    within = (caller.roles(it.id) for it in caller.user.organizations)
    return Me(
        **body.model_dump(),
        platform_admin=caller.platform_admin,
        permissions=rights.permissions(caller.roles() + sum(within, ()), rights.PLATFORM),
    )
