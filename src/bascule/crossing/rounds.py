"""A call to a stateless server, in as many rounds as its questions need.

Source: MCP 2026-07-28, "Multi Round-Trip Requests".
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Raw

from bascule.call import Result
from bascule.errors import BasculeError, InvalidParams, UpstreamBrokeProtocol
from bascule.wire import jsonrpc, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import InputRequired, Question

MAX_ROUNDS: Final = 10
_FIRST_PAUSE_S: Final = 0.1  # before a call is repeated whose server only wants to be asked again

# The answers by key, fit to be `inputResponses`; or what the call comes to without them.
Put: TypeAlias = Callable[[Mapping[str, Question]], Awaitable["dict[str, Raw] | Result"]]


async def in_rounds(method: str, params: Params, send: Callable[[Params], Awaitable[Result]], put: Put) -> Result:
    """The server's answer to *method*, after *put* has found answers to what it asked.

    *params* are stamped. Raises UpstreamBrokeProtocol for a server that asks without end, or wrongly.
    """
    base = params
    for round in range(MAX_ROUNDS):
        try:
            result = await send(params)
        except BasculeError as error:
            if round:
                error.half_way()  # the server has heard of the call before
            raise
        wanted = None if result.refused else _input_required(method, result.value, params)
        if wanted is None:
            return result
        answers: dict[str, Raw] = {}
        if wanted.questions:
            try:
                given = await put(wanted.questions)
            except BasculeError as error:
                error.half_way()
                raise
            if isinstance(given, Result):
                return given
            answers = given
        else:
            await asyncio.sleep(_FIRST_PAUSE_S * 2**round)  # it is busy: it only wants to be asked again
        params = _retry(base, answers, wanted)
    raise UpstreamBrokeProtocol(f"asks for input again after {MAX_ROUNDS} rounds")


def _input_required(method: str, result: Raw, params: Params) -> InputRequired | None:
    """What the server wants to know; None if *result* is its answer. Raises UpstreamBrokeProtocol."""
    try:
        modern.check_result(result, params)
        wanted = translate.asks_for_input(result)
    except (InvalidParams, ValueError) as error:
        raise UpstreamBrokeProtocol(f"answered with no result of this protocol: {error}") from error
    if wanted is not None and method not in translate.MAY_ASK:
        raise UpstreamBrokeProtocol(f"asks for input in {method}")
    return wanted


def _retry(base: Params, answers: Mapping[str, Raw], wanted: InputRequired) -> dict[str, Raw]:
    """The same request with what the server asked for."""
    fresh: dict[str, Any] = {"inputResponses": answers} if answers else {}
    if wanted.state is not None:
        fresh["requestState"] = wanted.state
    return jsonrpc.replaced(base, **fresh)
