"""A progress token is replaced by one of ours, however its name is spelt: a client's own could be another call's."""

import pytest
from msgspec import Raw

from bascule.upstream.base import with_token
from bascule.wire import jsonrpc


@pytest.mark.parametrize("meta", [b'{"progressToken":57}', b'{"progress\\u0054oken":57}'], ids=["plain", "escaped"])
def test_no_spelling_of_the_name_keeps_a_clients_token(meta: bytes) -> None:
    params, theirs = with_token({"_meta": Raw(meta)}, 3)
    assert theirs == Raw(b"57")
    assert jsonrpc.members(params["_meta"]) == {"progressToken": Raw(b"3")}
