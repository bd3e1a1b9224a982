"""Trying a tool: one call of it, through the same door as every other, for somebody who is no client of MCP.

The call is made under the name of who tries it and passes all stages: scopes, rules, limits, the confirm gate, the
audit. Here it is only written and read. What comes of it is an answer in any case, also a refusal.
"""

import json
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from bascule.admin.catalog import Entry
from bascule.call import Call, Caller, Result
from bascule.config import identifies, tells_apart
from bascule.errors import InvalidParams, ScopeDenied, Unavailable
from bascule.pipeline.ways import Way
from bascule.policy.scopes import UNLIMITED, Authority
from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import CALL_META
from bascule.wire.versions import LATEST_MODERN
from bascule.wire.wishes import KEY_META, TOKEN_META, VERSION_META

if TYPE_CHECKING:
    from bascule.app import Gateway

CONSOLE: Final = "console"  # as a proof
_ONLOOKERS: Final = frozenset({"viewer"})
_ERROR_META: Final = "dev.bascule/error"
_ASKED: Final = "input_required"
_INFO: Final = {"name": "bascule-try", "version": "1"}


class Nobody:
    """A client that waits for its answer and nothing else."""

    def notify(self, method: str, params: Params) -> None:
        pass  # progress and logs of a call that somebody tries are of no use afterwards

    async def ask(self, method: str, params: Params) -> Result:
        raise Unavailable(f"nobody can be asked {method}: a tool that is tried has no client behind it")


# ---- who calls -----------------------------------------------------------------------------------


def principal(gateway: "Gateway", caller: Caller) -> Caller:
    """*caller* with what they may call: who comes by the console gets what `console.try_scopes` gives their roles.

    Where nobody needs a credential to call tools, they need none either, unless they are there to look on only.
    """
    config = gateway.config
    if caller.proof != CONSOLE:
        return caller
    # A role of the console is none of the configuration, of which rules may ask.
    roles = frozenset(f"{CONSOLE}:{role}" for role in caller.roles)
    if not identifies(config) and not tells_apart(config) and caller.roles - _ONLOOKERS:
        return msgspec.structs.replace(caller, authority=UNLIMITED, roles=roles)
    given = config.console.try_scopes
    more = frozenset(scope for role, scopes in given.items() if role in caller.roles for scope in scopes)
    held = caller.authority
    return msgspec.structs.replace(caller, authority=Authority(held.granted | more, held.bound), roles=roles)


def lacking(gateway: "Gateway", caller: Caller, way: Way, server: str) -> tuple[str, ...]:
    """The scopes that somebody at the console would have to be given to try a tool; none if they may."""
    authority = principal(gateway, caller).authority
    # Where one token is for all clients, and where there is none, the stages look at no scopes.
    wanted = way.scopes or (server,)
    return tuple(scope for scope in wanted if not authority.covers((scope,)))


def check(gateway: "Gateway", caller: Caller, entry: Entry, version: str = "") -> None:
    """Raise ScopeDenied for somebody at the console who may not try a tool; of others the stages are the judge.

    *version*, a range perhaps, is what the call will ask for; raises VersionNotFound for what is none.
    """
    way, choice = entry.way, entry.way.choice
    if choice is not None:  # each version has scopes of its own
        way = gateway.govern.ways.version("tool", entry.server, entry.name, choice.pick(version, caller.name))
    missing = lacking(gateway, caller, way, entry.server)
    if missing:
        raise ScopeDenied(
            f"to try {entry.id} at the console you need {' and '.join(missing)}; the operator gives it to a role under"
            " console.try_scopes",
            missing,
        )


# ---- the call ------------------------------------------------------------------------------------


async def call(
    gateway: "Gateway",
    caller: Caller,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    version: str = "",
    key: str = "",
    token: str = "",
) -> dict[str, Any]:
    """What came of one call, in JSON: `outcome` says in a word how it went.

    *version* is one of the tool's, or a range; *key* makes that it is done once; *token* is of a confirmation.
    Raises InvalidParams for arguments that are no JSON.
    """
    asked = _call(principal(gateway, caller), tool, arguments, version=version, key=key, token=token)
    began = time.perf_counter()
    answer = await gateway.rim.answer(asked)
    said = jsonrpc.members(answer.message)
    return {
        "tool": tool,
        "trace_id": asked.trace_id,
        "took_ms": round((time.perf_counter() - began) * 1000, 1),
        "idempotency_key": key or None,
        "replayed": answer.replayed,
        **_read(said),
    }


def _call(caller: Caller, tool: str, arguments: Mapping[str, Any], *, version: str, key: str, token: str) -> Call:
    wishes = {KEY_META: key, TOKEN_META: token, VERSION_META: version}
    meta = {
        modern.PROTOCOL_VERSION: LATEST_MODERN.version,
        modern.CLIENT_CAPABILITIES: {},
        modern.CLIENT_INFO: _INFO,
        **{name: said for name, said in wishes.items() if said},
    }
    return Call(
        caller=caller,
        client=Nobody(),
        revision=LATEST_MODERN,
        method="tools/call",
        params={"name": _raw(tool), "arguments": _raw(arguments), "_meta": _raw(meta)},
        id=Raw(b"1"),
        trace_id=secrets.token_hex(16),
    )


def _raw(value: Any) -> Raw:
    """*value* as a client would send it, with numbers of any size. Raises InvalidParams for what JSON has not."""
    try:
        return Raw(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode())
    except (ValueError, RecursionError) as error:
        raise InvalidParams(f"that cannot be said in JSON: {error}") from error


def _read(said: Params) -> dict[str, Any]:
    """What an answer says: the result without our words in it, and those beside it."""
    if "error" in said:
        error = _object(jsonrpc.decode(said["error"]))
        facts = _object(error.get("data")) | {"message": str(error.get("message", "")), "rpc_code": error.get("code")}
        return {"outcome": "refused", "result": None, "error": facts, "call": None}
    result = _object(jsonrpc.decode(said["result"]))
    meta = _object(result.get("_meta"))
    label, failed = meta.pop(CALL_META, None), meta.pop(_ERROR_META, None)
    shown = {name: value for name, value in result.items() if name not in ("_meta", "resultType")}
    if meta:
        shown["_meta"] = meta
    outcome = "failed" if result.get("isError") else "asks" if result.get("resultType") == _ASKED else "answered"
    if failed is not None:
        waits = failed.get("kind") == "confirmation_required"
        return {"outcome": "needs_confirmation" if waits else "refused", "result": None, "error": failed, "call": None}
    return {"outcome": outcome, "result": shown, "error": None, "call": label}


def _object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
