"""`open`: a legacy session becomes known to a server with its first call there, once the call may go."""

from bascule.call import Call, Forward, Result
from bascule.registry.aggregate import Aggregate


class Open:
    """Opens the call's session at the server it goes to, on the endpoint that joins all servers."""

    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if call.session is not None and not call.view and call.target is not None and call.target.upstream.name:
            await self._aggregate.open(call, call.target.upstream)
        return await forward(call)
