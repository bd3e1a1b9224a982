"""What a request asks of Bascule is heard, however its JSON is spelt."""

import pytest
from msgspec import Raw

from bascule.wire.wishes import KEY_META, unkeyed, wishes_of

KEY = "order-4711-attempt"
SPELT = {
    "plainly": b'{"dev.bascule/idempotencyKey":"order-4711-attempt","a":1}',
    "as PHP does": b'{"dev.bascule\\/idempotencyKey":"order-4711-attempt","a":1}',
    "with escapes": b'{"\\u0064ev.bascule/idempotencyKey":"order-4711-attempt","a":1}',
}


@pytest.mark.parametrize("meta", SPELT.values(), ids=list(SPELT))
def test_a_key_is_found_in_every_spelling(meta: bytes) -> None:
    assert wishes_of({"_meta": Raw(meta)}, {}).key == KEY


@pytest.mark.parametrize("meta", SPELT.values(), ids=list(SPELT))
def test_it_is_taken_out_in_every_spelling(meta: bytes) -> None:
    left = bytes(unkeyed({"_meta": Raw(meta)})["_meta"])
    assert KEY.encode() not in left
    assert KEY_META.encode() not in left
    assert b'"a":1' in left
