"""A server with a handshake, as a stateless client sees it.

Source: MCP 2026-07-28, "Multi Round-Trip Requests", "Subscriptions"; MCP 2025-11-25, "Lifecycle",
"Elicitation", "Sampling", "Roots".
"""

from collections.abc import Sequence

from bascule.call import Call, Result
from bascule.crossing.conversation import Conversation, answers_of
from bascule.crossing.parking import Parking, digest_of
from bascule.crossing.pool import Pool
from bascule.errors import BasculeError, InvalidParams, UpstreamBrokeProtocol
from bascule.upstream.base import Upstream
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params


class AsModern:
    """Requests of stateless clients, carried out in sessions with the server."""

    def __init__(self, upstream: Upstream, parking: Parking) -> None:
        self.pool = Pool(upstream)
        self._upstream = upstream
        self._parking = parking

    async def send(self, call: Call) -> Result:
        """Answer *call* as a stateless server would. Raises what the upstream raises."""
        match call.method:
            case modern.DISCOVER:
                return Result(translate.discovered(await (await self.pool.session(call)).greeting()))
            case modern.LISTEN:
                return await self._listen(call)
            case _:
                return await self._converse(call)

    async def close(self) -> None:
        await self.pool.close()

    # ---- calls

    async def _converse(self, call: Call) -> Result:
        assert call.target is not None, "the resolve stage sets the target"
        params = call.target.params
        answers = answers_of(params)
        if call.method not in translate.MAY_ASK or "requestState" not in params:
            # Answers without a state belong to no call that waits: the server asks again.
            conversation = await self.pool.conversation(call)
            result = await conversation.begin(call)
        else:
            able = self.pool.declared_by(call)  # first: whatever is refused does not spend the state
            conversation = self._parked(call, params)
            result = await conversation.go_on(call, able, answers)
        if result is None:
            return await self._park(conversation, digest_of(self._upstream.name, call, params))
        try:
            if result.refused:
                return result
            server = await conversation.server_info()
            return Result(translate.result_for_modern(call.method, result.value, server))
        except InvalidParams as error:
            raise UpstreamBrokeProtocol(f"answered with what is no result: {error}").at(self._upstream.name) from error

    def _parked(self, call: Call, params: Params) -> Conversation:
        state = jsonrpc.text(params["requestState"])
        if state is None:
            raise InvalidParams('"requestState" is a string')
        guest = self._parking.resume(state, call.caller, digest_of(self._upstream.name, call, params))
        assert isinstance(guest, Conversation), "nothing else is parked"
        return guest

    async def _park(self, conversation: Conversation, digest: bytes) -> Result:
        try:
            state = self._parking.park(conversation, digest)
        except BasculeError:
            await conversation.give_up()
            raise
        return Result(translate.input_required(conversation.questions(), state))

    # ---- subscriptions/listen

    async def _listen(self, call: Call) -> Result:
        """Tell the client what it wants to hear of until it leaves."""
        wanted_kinds, wanted_uris = modern.wanted_by(call.params)
        session = await self.pool.session(call)
        news = _News(call)
        session.hearers.add(news.take)
        uris: list[str] = []
        try:
            kinds = [kind for kind in wanted_kinds if await session.offers(kind, "listChanged")]
            if await session.offers("resources", "subscribe"):
                for uri in wanted_uris:
                    if await session.subscribe(uri):
                        uris.append(uri)  # noqa: PERF401 - each counts at once: the client may leave any time
            if kinds or uris:
                await self._upstream.watch(session)
            news.acknowledge(kinds, uris)
            await session.ended.wait()  # or until the client leaves
        finally:
            session.hearers.discard(news.take)
            if uris:
                self.pool.spawn(session.unsubscribe(uris))
        return Result(modern.subscription_end(call.id))


class _News:
    """One client's subscription: it hears what it asked for, once it knows what that is."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._methods: frozenset[str] = frozenset()
        self._uris: Sequence[str] = ()
        self._early: list[tuple[str, Params]] | None = []  # what came before the acknowledgement

    def acknowledge(self, kinds: Sequence[str], uris: Sequence[str]) -> None:
        self._methods = frozenset(method for method, kind in legacy.LIST_CHANGED.items() if kind in kinds)
        self._uris = uris
        early, self._early = self._early or [], None
        self._tell(modern.ACKNOWLEDGED, modern.wanting(kinds, uris))
        for method, params in early:
            self.take(method, params)

    def take(self, method: str, params: Params) -> None:
        if self._early is not None:
            self._early.append((method, params))
        elif method in self._methods or (method == legacy.UPDATED and self._concerns(params)):
            self._tell(method, params)

    def _concerns(self, params: Params) -> bool:
        uri = jsonrpc.text(params.get("uri")) or ""
        return any(legacy.concerns(held, uri) for held in self._uris)

    def _tell(self, method: str, params: Params) -> None:
        self._call.client.notify(method, modern.retag(params, self._call.id))
