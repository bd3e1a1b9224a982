"""The one token that stands for everything (`http.bearer`): who shows exactly it comes in, nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.call import BEARER
from bascule.edge.auth.callers import Callers, Credential
from bascule.edge.auth.identify import Identify, token_in
from bascule.edge.auth.keys import KeyBook
from bascule.errors import Unauthenticated
from bascule.policy.keys import PEPPER_BYTES, KeySnapshot
from bascule.policy.options import AuthOptions

TOKEN = "s3cret-s3cret-s3cret"


def identify() -> Identify:
    keys = KeyBook(KeySnapshot(bytes(PEPPER_BYTES)), "live")
    return Identify(Callers(AuthOptions(), {}, {}), keys, None, bearer=TOKEN, alone=False)


def showing(authorization: str | None) -> Credential:
    return Credential(authorization, None, "127.0.0.1", "http://localhost/mcp")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, ""),
        ("", ""),
        ("Bearer", "invalid_request"),
        ("Bearer ", "invalid_request"),
        ("Bearer wrong", "invalid_token"),
        (f"Bearer {TOKEN[:-1]}", "invalid_token"),
        (f"Bearer {TOKEN}x", "invalid_token"),
        (f"Bearer {TOKEN.upper()}", "invalid_token"),
        (f"Basic {TOKEN}", ""),
        (TOKEN, ""),
        (f"Bearer {TOKEN}, Bearer x", "invalid_request"),
        ("Bearer \xe9\xff", "invalid_request"),
    ],
)
async def test_whatever_is_not_the_token_is_refused(authorization: str | None, reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await identify().caller(showing(authorization))
    assert caught.value.reason == reason
    assert TOKEN not in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN}"])
async def test_who_shows_the_token_is_its_bearer(authorization: str) -> None:
    assert await identify().caller(showing(authorization)) is BEARER


@given(st.text(st.characters(max_codepoint=255)))
def test_no_text_but_a_scheme_and_a_token_holds_a_token(authorization: str) -> None:
    try:
        token = token_in(authorization)
    except Unauthenticated:
        return
    assert authorization.split() == [authorization.split()[0], token]
