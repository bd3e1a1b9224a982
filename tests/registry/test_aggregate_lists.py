"""Which servers a list on `/mcp` asks again, and which it lets rest."""

import time

import pytest

from bascule.registry.aggregate import _may_be_old
from bascule.registry.catalog import Listing
from bascule.registry.sync import Follower
from bascule.upstream.base import State
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.upstream.stdio import StdioOptions, StdioUpstream
from bascule.wire.versions import Era


def followed(listing: Listing | None, *, age_s: float) -> Follower:
    """A follower of a server that answers, with lists of that age."""
    upstream = HttpUpstream("it", HttpOptions(url="http://127.0.0.1:1/mcp"))
    upstream.answered(200)
    follower = Follower(upstream, Era.LEGACY, lambda: None)
    follower.listing = listing
    follower._fetched_at = time.monotonic() - age_s
    return follower


@pytest.mark.parametrize(
    ("listing", "age_s", "old"),
    [
        (Listing(capabilities={"tools": {}}), 60, True),
        (Listing(capabilities={"tools": {}}), 1, False),
        (Listing(capabilities={"tools": {}}, ttl_ms=120_000), 60, False),
        (Listing(capabilities={"tools": {"listChanged": True}}), 60, False),
        (None, 60, False),
    ],
    ids=["silent", "fresh", "within its ttl", "tells of changes", "never listed"],
)
async def test_only_lists_that_may_have_changed_unsaid_are_asked_for_again(
    listing: Listing | None, age_s: float, old: bool
) -> None:
    assert _may_be_old(followed(listing, age_s=age_s)) is old


async def test_a_server_that_rests_is_not_woken_by_a_list() -> None:
    upstream = StdioUpstream("it", StdioOptions(command="true", start="lazy"))
    follower = Follower(upstream, Era.LEGACY, lambda: None)
    follower.listing = Listing(capabilities={"tools": {}})
    assert upstream.status().state is State.IDLE
    assert not _may_be_old(follower)
