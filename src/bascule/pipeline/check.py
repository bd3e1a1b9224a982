"""`check`: what the server answered, against the contract's output schema. Source: MCP 2026-07-28, "Output Schema"."""

from typing import Any

import msgspec

from bascule.call import Call, Forward, Result
from bascule.contract.model import Mode
from bascule.contract.validation.schema import Validator, result_message
from bascule.errors import UpstreamBrokeProtocol


class _Answer(msgspec.Struct, frozen=True):
    resultType: str = "complete"
    isError: bool = False
    structuredContent: Any = None


_decoder = msgspec.json.Decoder(_Answer)


class Check:
    """Holds a result back that is not what the contract promises; or only says so."""

    def __init__(self, validator: Validator, mode: Mode) -> None:
        self._problems = validator.problems
        self._mode = mode

    async def __call__(self, call: Call, forward: Forward) -> Result:
        result = await forward(call)
        if result.refused or (problem := self._problem(result)) is None:
            return result
        if self._mode == "block":
            raise UpstreamBrokeProtocol(f"the result is not what the tool's output schema promises: {problem}")
        return msgspec.structs.replace(result, warnings=(*result.warnings, f"the result is not as promised: {problem}"))

    def is_sound(self, result: Result) -> bool:
        """Whether *result* would be let through."""
        return result.refused or self._mode != "block" or self._problem(result) is None

    def _problem(self, result: Result) -> str | None:
        try:
            answer = _decoder.decode(result.value)
        except (msgspec.DecodeError, RecursionError) as error:
            return str(error)
        if answer.isError or answer.resultType != "complete":
            return None  # a failure, or a question, promises nothing
        if answer.structuredContent is None:
            return "there is no structuredContent"
        problems = self._problems(answer.structuredContent, len(bytes(result.value)))
        return result_message(problems) if problems else None
