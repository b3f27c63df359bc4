"""The page and the description of the API, which do not change while we run."""

from importlib import resources
from typing import Final

from ._exchange import Answer

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def read_files() -> dict[str, Answer]:
    """Read them all and return the answers, by path."""
    here = resources.files("trio_signal.hub")
    description = Answer(200, (here / "openapi.json").read_bytes())
    files = {"/openapi.json": description}
    for file in (here / "page").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in _TYPES:
            headers = (("Content-Security-Policy", _POLICY), ("X-Frame-Options", "DENY"))
            files[f"/page/{file.name}"] = Answer(200, file.read_bytes(), _TYPES[suffix], headers)
    files["/"] = files.pop("/page/index.html")
    return files
