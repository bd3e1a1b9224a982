"""`validate`: the arguments against the contract's schema, before anybody acts on them."""

from typing import Any, Final

import msgspec

from bascule.call import Call, Forward, Result
from bascule.contract.model import Mode
from bascule.contract.validation.schema import Validator, arguments_message
from bascule.errors import InvalidArgument
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import NOTHING

_WITH_ARGUMENTS: Final = frozenset({"tools/call", "prompts/get"})


def arguments_of(call: Call) -> Any:
    """The call's arguments as Python values, decoded once; of a resource, its URI.

    The method says where they stand: what stands elsewhere no server reads, and no rule may be led by it.
    """
    if call.args is not None:
        return call.args
    if call.method in _WITH_ARGUMENTS:
        raw = call.params.get("arguments")
        return {} if raw is None else jsonrpc.decode(raw)
    uri = None if call.method == "completion/complete" else call.params.get("uri")
    return {} if uri is None else {"uri": jsonrpc.decode(uri)}


class Validate:
    """Refuses what does not fit the schema in words that a model can mend it by; or only says so."""

    def __init__(self, validator: Validator, mode: Mode) -> None:
        self._problems = validator.problems
        self._mode = mode

    async def __call__(self, call: Call, forward: Forward) -> Result:
        args = arguments_of(call)
        call = msgspec.structs.replace(call, args=args)
        problems = self._problems(args, len(bytes(call.params.get("arguments", NOTHING))))
        if not problems:
            return await forward(call)
        message = arguments_message(problems)
        if self._mode == "block":
            raise InvalidArgument(message, problems)
        result = await forward(call)
        return msgspec.structs.replace(result, warnings=(*result.warnings, message))
