"""Who may not call hears what they would hear of something that does not exist."""

from typing import Any

import pytest
from msgspec.structs import replace

from bascule.call import Call, Caller
from bascule.contract.model import Contract, Deprecation, Kind
from bascule.errors import BasculeError, Gone, PromptNotFound, ResourceNotFound, ScopeDenied, ToolNotFound, to_data
from bascule.pipeline.authorize import Authorize
from bascule.policy.scopes import Authority
from bascule.wire import jsonrpc
from pipeline.calls import ANSWER, Server, call

SCOPES = ("crm:write:lead", "hr:see")


def asked(authority: Authority, method: str = "tools/call", **params: Any) -> Call:
    raws = {name: jsonrpc.encode(value) for name, value in (params or {"name": "crm__find"}).items()}
    return replace(call(method=method), caller=Caller("me", authority), params=raws)


def holding(*scopes: str, grantable: tuple[str, ...] = ()) -> Authority:
    return Authority(frozenset(scopes), grantable=frozenset(grantable))


async def outcome(stage: Authorize, wanted: Call) -> BasculeError | None:
    server = Server()
    try:
        assert await stage(wanted, server) is ANSWER
    except BasculeError as error:
        assert server.calls == 0
        return error
    return None


def stage(kind: Kind = "tool", withheld: str = "", **terms: Any) -> Authorize:
    return Authorize(Contract(id="crm/find", kind=kind, **terms), SCOPES, withheld)


async def test_who_holds_all_scopes_passes() -> None:
    assert await outcome(stage(), asked(holding("crm", "hr:see"))) is None


async def test_who_lacks_one_hears_that_there_is_no_such_thing() -> None:
    error = await outcome(stage(version="2.0.0"), asked(holding("crm")))
    assert isinstance(error, ToolNotFound)
    assert error.message == "no tool 'crm__find'"
    assert to_data(error, "t") == to_data(ToolNotFound("no tool 'crm__find'", name="crm__find"), "t")


@pytest.mark.parametrize(
    ("kind", "method", "params", "wanted"),
    [
        ("prompt", "prompts/get", {"name": "greet"}, PromptNotFound),
        ("resource", "resources/read", {"uri": "x://1"}, ResourceNotFound),
        ("prompt", "completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}}, PromptNotFound),
        ("resource", "completion/complete", {"ref": {"type": "ref/resource", "uri": "x://1"}}, ResourceNotFound),
    ],
)
async def test_each_kind_of_thing_is_missed_in_its_own_words(
    kind: Kind, method: str, params: dict[str, Any], wanted: type[BasculeError]
) -> None:
    error = await outcome(stage(kind), asked(holding(), method, **params))
    assert type(error) is wanted
    assert set(error.details.values()) <= {"greet", "x://1"}


async def test_who_could_ask_for_the_scopes_is_told_all_of_them() -> None:
    error = await outcome(stage(), asked(holding("crm", grantable=("hr", "crm"))))
    assert isinstance(error, ScopeDenied)
    assert error.scopes == SCOPES


async def test_what_is_withheld_is_there_for_nobody() -> None:
    for authority in (holding("*"), holding(grantable=("crm", "hr"))):
        assert isinstance(await outcome(stage(withheld="a bomb"), asked(authority)), ToolNotFound)


async def test_what_is_gone_is_told_to_those_alone_who_could_have_called_it() -> None:
    said = Deprecation(replaced_by="crm/find@2", migration="`q` is required")
    error = await outcome(stage(status="gone", deprecation=said), asked(holding("*")))
    assert isinstance(error, Gone)
    assert error.message == "crm/find has been withdrawn; use crm/find@2: `q` is required"
    assert isinstance(await outcome(stage(status="gone"), asked(holding())), ToolNotFound)
