"""A bearer token in a file of its user's: read when a bridge starts, and again when the token was refused.

Imported by every start of a bridge, so it imports nothing but the standard library's small parts.
"""

import os
import re
import stat
from typing import Final
from urllib.parse import urlsplit

from bascule.errors import ConfigInvalid

NEWS_S: Final = 5.0  # within this a gateway has heard of a new key
_MOST_BYTES: Final = 4096
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OF_OTHERS: Final = 0o077


class TokenFile:
    """The file, and the token that it held last."""

    def __init__(self, path: str, url: str) -> None:
        """Raises ConfigInvalid if there is no such file, others may read it, or *url* would show the token to all."""
        parts = urlsplit(url)
        if parts.scheme.lower() == "http" and parts.hostname not in _LOCAL:
            raise ConfigInvalid(f"the token would cross a network unencrypted to {url}: use https")
        self._path = os.path.expanduser(path)
        self.token = self._read()

    def renewed(self) -> bool:
        """Whether the file holds another token by now, which is used from here on. A file that is unfit changes
        nothing: the refusal stands."""
        try:
            token = self._read()
        except ConfigInvalid:
            return False
        self.token, old = token, self.token
        return token != old

    def news_in_s(self, now_s: float) -> float:
        """Seconds until each gateway has heard of what the file holds; 0 if it was written long enough ago."""
        try:
            age_s = now_s - os.stat(self._path).st_mtime
        except OSError:
            return 0.0
        return NEWS_S - age_s if 0 <= age_s < NEWS_S else 0.0

    def _read(self) -> str:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                self._check(os.fstat(descriptor))
                content = os.read(descriptor, _MOST_BYTES + 1)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigInvalid(f"cannot be read: {error.strerror}", place=self._path) from error
        token = content.decode("latin-1").strip()
        if len(content) > _MOST_BYTES or not _TOKEN.fullmatch(token):
            raise ConfigInvalid(
                "holds no token: one line of characters that an HTTP header can carry", place=self._path
            )
        return token

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ConfigInvalid("is no file", place=self._path)
        if os.name != "posix":
            return
        if found.st_uid != os.geteuid():
            raise ConfigInvalid("belongs to somebody else; a token is in a file of your own", place=self._path)
        if found.st_mode & _OF_OTHERS:
            raise ConfigInvalid(f"others may read the token in it; chmod 600 {self._path}", place=self._path)
