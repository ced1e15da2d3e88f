"""Files that never change under their name: the name holds a digest of what is in them."""

import gzip
import hashlib
import importlib.util
import mimetypes
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "static"


def _htmx() -> Path:
    """Return htmx as django-htmx brings it; nothing of Django is needed for that."""
    spec = importlib.util.find_spec("django_htmx")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("django-htmx is not installed")
    return Path(spec.submodule_search_locations[0]) / "static/django_htmx/htmx-2.min.js"


class Assets:
    """The style, the scripts and the pictures, in memory."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}
        self._files: dict[str, tuple[str, bytes, bytes]] = {}
        for path in sorted([*_FOLDER.iterdir(), _htmx()]):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            name = f"{path.stem}.{digest}{path.suffix}"
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            self._urls[path.name] = f"/static/{name}"
            self._files[name] = (kind, content, gzip.compress(content, 9, mtime=0))

    def url(self, name: str) -> str:
        """Return where a browser finds a file."""
        return self._urls[name]

    async def serve(self, request: Request) -> Response:
        """Answer with a file, which may be kept for ever."""
        try:
            kind, plain, packed = self._files[request.path_params["name"]]
        except KeyError:
            raise HTTPException(404) from None
        headers = {
            "cache-control": "public, max-age=31536000, immutable",
            "vary": "accept-encoding",
        }
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                packed, media_type=kind, headers={**headers, "content-encoding": "gzip"}
            )
        return Response(plain, media_type=kind, headers=headers)
