"""Crossing eras. So far it only says no, clearly; translation comes with the next release.

Everything that decides which of a server's eras serves a client asks `era_for`.
"""

from collections.abc import Collection

from bascule.errors import UnsupportedVersion
from bascule.wire.versions import LEGACY_VERSIONS, MODERN_VERSIONS, Era


def era_for(client: Era, spoken: Collection[Era], server: str, requested: str) -> Era:
    """The era in which *server*, which speaks the eras *spoken*, serves a client of era *client*.

    Raises UnsupportedVersion, naming the versions that would work at the same URL.
    """
    if client in spoken:
        return client
    supported = MODERN_VERSIONS if Era.MODERN in spoken else LEGACY_VERSIONS
    raise UnsupportedVersion(
        f"server {server!r} speaks MCP {', '.join(supported)}; this client speaks {requested},"
        " and Bascule does not translate between the two yet",
        requested=requested,
        supported=supported,
    )
