"""The gateway's own pages: files of this package, which load nothing from anywhere else."""

from functools import cache
from importlib.resources import files
from typing import Final

from fastapi.responses import Response

HTML: Final = "text/html; charset=utf-8"
SCRIPT: Final = "text/javascript; charset=utf-8"
STYLE: Final = "text/css; charset=utf-8"
# By path: the file, and what it is. There are no others, whatever a path says.
FILES: Final = {
    "/": ("live.html", HTML),
    "/live.js": ("live.js", SCRIPT),
    "/charts.js": ("charts.js", SCRIPT),
    "/docs": ("docs.html", HTML),
    "/docs.js": ("docs.js", SCRIPT),
    "/page.css": ("page.css", STYLE),
}


@cache
def _content(name: str) -> bytes:
    return (files("server.gateway") / "files" / name).read_bytes()


def page_of(path: str) -> Response:
    """What is at a path of FILES."""
    name, kind = FILES[path]
    return Response(_content(name), media_type=kind, headers={"Cache-Control": "no-cache"})
