"""The files that pages load: each under a name with its digest, so that browsers may keep it for ever."""

import gzip
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True):
    """One file, as it is sent."""

    name: str  # "console.3f9c0d1e2a4b.css"
    kind: str
    plain: bytes
    zipped: bytes


class Assets:
    """All files of a folder, read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = {path.name: _asset(path) for path in _files(folder)}
        self._urls = {name: asset.name for name, asset in found.items()}
        self._by_name = {asset.name: asset for asset in found.values()}

    def name(self, file: str) -> str:
        """The name under which *file* is served. KeyError for one that is not there, which is a mistake of ours."""
        return self._urls[file]

    def response(self, name: str, accept_encoding: str) -> Response:
        """The file of that served *name*, 404 if there is none."""
        asset = self._by_name.get(name)
        if asset is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        zipped = "gzip" in accept_encoding
        headers = {"cache-control": _FOR_EVER, "vary": "accept-encoding", "content-type": asset.kind}
        if zipped:
            headers["content-encoding"] = "gzip"
        return Response(asset.zipped if zipped else asset.plain, headers=headers)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix in _TYPES)


def _asset(path: Path) -> Asset:
    plain = path.read_bytes()
    name = f"{path.stem}.{sha256(plain).hexdigest()[:12]}{path.suffix}"
    return Asset(name, _TYPES[path.suffix], plain, gzip.compress(plain, 9, mtime=0))
