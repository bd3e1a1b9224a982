"""Another server answers for one that fails, where that is the same promise and does no harm."""

from collections.abc import Mapping

import msgspec
import pytest
from msgspec import Raw

from bascule.call import Caller, Forward
from bascule.contract.model import Contract
from bascule.errors import (
    BasculeError,
    CircuitOpen,
    Draining,
    RateLimited,
    Unavailable,
    UpstreamBrokeProtocol,
)
from bascule.pipeline.breaker import Breaker, Look
from bascule.pipeline.chain import compose
from bascule.pipeline.fallback import Fallback, Other
from bascule.pipeline.health import Health
from bascule.pipeline.retry import Retry
from bascule.policy.breaker import Rules
from bascule.policy.scopes import Authority
from bascule.upstream.base import reach
from pipeline.calls import ANSWER, Standing
from pipeline.somewhere import READ, UPSERT, WRITE, Somewhere, call_to, health_of

KEY = "0123456789abcdef"


class Known:
    """What the other server has, as it is told."""

    def __init__(self, *others: Other) -> None:
        self.others: Mapping[str, Other] = {each.contract.id: each for each in others}

    def find(self, server: str, tool: str) -> Other | None:
        return self.others.get(f"{server}/{tool}")


def there(upstream: Somewhere, contract: Contract, health: Health, scopes: tuple[str, ...] = ()) -> Other:
    other = msgspec.structs.replace(contract, id=f"{upstream.name}/{contract.name}")
    return Other(upstream, other, scopes, compose([Breaker(other, health)], reach))


def chain(crm: Somewhere, eu: Somewhere, contract: Contract, *others: Other, health: Health | None = None) -> Forward:
    health = health or health_of(crm, eu, rules=Rules())[0]
    fallback = Fallback(contract, "crm", "crm_eu", Known(*(others or (there(eu, contract, health),))), health)
    retry = Retry(contract, health, chance=lambda: 0.0)
    return compose([Look(contract, health, fallback), fallback, retry, Breaker(contract, health)], reach)


def refused(name: str = "crm") -> BasculeError:
    return Unavailable("connection refused").at(name)


def broke(name: str = "crm") -> BasculeError:
    return UpstreamBrokeProtocol("the process died").at(name)


async def test_the_other_server_answers_and_the_result_says_so() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu")
    call = call_to(crm)
    result = await chain(crm, eu, WRITE)(call)
    assert (result.value, call.trip.served_by) == (ANSWER.value, "crm_eu")
    assert result.warnings == ("crm failed; answered by crm_eu",)
    sent = eu.calls[0]
    assert sent.target is not None
    assert (sent.target.upstream, sent.contract and sent.contract.id) == (eu, "crm_eu/send")


@pytest.mark.parametrize(
    ("contract", "error", "key", "goes"),
    [
        (WRITE, refused, "", True),
        (WRITE, refused, KEY, True),
        (WRITE, lambda: RateLimited("HTTP 429", 99.0).at("crm"), "", True),
        (WRITE, broke, "", False),
        (UPSERT, broke, "", False),
        (READ, broke, "", True),
        (READ, broke, KEY, False),
        (READ, lambda: Draining("ends"), "", False),
        (READ, lambda: UpstreamBrokeProtocol("HTTP 403").at("bascule"), "", False),
    ],
)
async def test_only_what_the_first_server_has_not_run_or_what_reads(
    contract: Contract, error: "type[BasculeError]", key: str, goes: bool
) -> None:
    crm, eu = Somewhere("crm", *(error() for _ in range(5))), Somewhere("crm_eu")  # type: ignore[call-arg]  # made by functions
    forward = chain(crm, eu, contract)
    if goes:
        assert (await forward(call_to(crm, contract, key=key))).warnings
    else:
        with pytest.raises(BasculeError):
            await forward(call_to(crm, contract, key=key))
    assert len(eu.calls) == goes


async def test_an_open_circuit_sends_calls_to_the_other_server_at_once() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu")
    health, server = health_of(crm, eu, rules=Rules())
    server.hold("open")
    assert (await chain(crm, eu, WRITE, health=health)(call_to(crm))).warnings
    assert crm.calls == []


async def test_when_both_are_left_alone_the_call_is_refused_before_anything_else() -> None:
    crm, eu = Somewhere("crm"), Somewhere("crm_eu")
    health, server = health_of(crm, eu, rules=Rules())
    server.hold("open")
    other = health.of(eu)
    assert other is not None
    other.hold("open")
    with pytest.raises(CircuitOpen):
        await chain(crm, eu, WRITE, health=health)(call_to(crm))
    assert crm.calls == eu.calls == []


async def test_another_promise_is_no_substitute() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu")
    health, _ = health_of(crm, eu, rules=Rules())
    newer = msgspec.structs.replace(WRITE, version="2.0.0")
    with pytest.raises(Unavailable):
        await chain(crm, eu, WRITE, there(eu, newer, health), health=health)(call_to(crm))
    with pytest.raises(Unavailable):
        await chain(crm, eu, WRITE, there(eu, READ, health), health=health)(call_to(crm))  # it has no such tool
    assert eu.calls == []


async def test_the_scopes_of_both_are_needed() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu")
    health, _ = health_of(crm, eu, rules=Rules())
    forward = chain(crm, eu, WRITE, there(eu, WRITE, health, ("crm_eu:write:send",)), health=health)
    with pytest.raises(Unavailable):
        await forward(call_to(crm, caller=Caller("me", Authority(frozenset({"crm:*"})))))
    both = Authority(frozenset({"crm:*", "crm_eu:write:send"}))
    assert (await forward(call_to(crm, caller=Caller("me", both)))).warnings


async def test_a_failure_of_both_is_told_as_that_of_the_first_with_the_other_beside_it() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu", refused("crm_eu"))
    with pytest.raises(Unavailable) as ended:
        await chain(crm, eu, WRITE)(call_to(crm))
    assert ended.value.source == "crm"
    assert ended.value.details["fallback"]["server"] == "crm_eu"
    assert ended.value.unsent
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu", broke("crm_eu"))
    with pytest.raises(Unavailable) as ended:
        await chain(crm, eu, WRITE)(call_to(crm))
    assert not ended.value.unsent  # the other may have run it


async def test_a_call_that_has_begun_stays_where_it_began() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu")
    later = msgspec.structs.replace(call_to(crm, READ), params={"inputResponses": Raw(b"{}")})
    with pytest.raises(Unavailable):
        await chain(crm, eu, READ)(later)
    assert eu.calls == []


async def test_a_session_on_a_servers_own_endpoint_stays_with_that_server() -> None:
    crm, eu = Somewhere("crm", refused()), Somewhere("crm_eu")
    with pytest.raises(Unavailable):
        await chain(crm, eu, READ)(call_to(crm, READ, session=Standing("s"), view="crm"))
    assert eu.calls == []
    assert (await chain(crm, eu, READ)(call_to(crm, READ, session=None, view="crm"))).warnings
