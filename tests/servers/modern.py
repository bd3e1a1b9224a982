"""A well-behaved stateless MCP server over stdio, or HTTP (web.py): 2026-07-28 only, questions by multi round-trips."""

import argparse
import base64
import hashlib
import hmac
import json
from typing import Any, ClassVar, Final

from server import (
    INVALID_PARAMS,
    LEVELS,
    Call,
    Id,
    Json,
    Method,
    Outlet,
    Question,
    Refusal,
    Server,
    World,
    lacking,
    options,
)

REVISION: Final = "2026-07-28"
META: Final = "io.modelcontextprotocol/"
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
CACHEABLE: Final = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
)
SEAL_KEY: Final = b"only tests know this"


class InputRequired(Exception):
    """The call ends here; the client may retry it with this input."""

    def __init__(self, requests: Json, state: str) -> None:
        super().__init__()
        self.result: Json = {"resultType": "input_required", "inputRequests": requests, "requestState": state}


class ModernServer(Server):
    """2026-07-28. Nothing is remembered between requests but the open subscriptions."""

    info: ClassVar[Json] = {"name": "modern", "version": "1.0.0"}
    resource_not_found: ClassVar = INVALID_PARAMS

    def __init__(self, options: argparse.Namespace, world: World | None = None, outlet: Outlet | None = None) -> None:
        super().__init__(options, world, outlet)
        self.cache_hints: Json = {"ttlMs": options.ttl_ms, "cacheScope": options.cache_scope}
        self.subscriptions: list[tuple[Call, Json]] = []
        self.methods |= {
            "initialize": _refuse_handshake,
            "server/discover": self._discover,
            "subscriptions/listen": self._listen,
        }

    def admit(self, call: Call) -> None:
        if call.method == "initialize":
            return
        for key in ("protocolVersion", "clientCapabilities"):
            if META + key not in call.meta:
                raise Refusal(INVALID_PARAMS, f"_meta lacks {META}{key}")
        if (requested := call.meta[f"{META}protocolVersion"]) != REVISION:
            raise unsupported(requested)
        if call.meta.get(f"{META}logLevel", LEVELS[0]) not in LEVELS:
            raise Refusal(INVALID_PARAMS, "No such log level")

    def dress(self, call: Call, result: Json) -> Json:
        dressed = {"resultType": "complete"} | result
        if call.method in CACHEABLE and dressed["resultType"] == "complete":
            dressed |= self.cache_hints
        return dressed | {"_meta": {f"{META}serverInfo": self.info} | result.get("_meta", {})}

    def ask(self, call: Call, questions: dict[str, Question]) -> Json:
        if needed := lacking(call.meta[f"{META}clientCapabilities"], questions):
            raise Refusal(MISSING_CAPABILITY, "A capability is needed", requiredCapabilities=needed)
        answers = unseal(call)
        if missing := questions.keys() - answers.keys():
            requests = {key: {"method": method, "params": params} for key, (method, params) in questions.items()}
            raise InputRequired({key: requests[key] for key in requests if key in missing}, seal(call, answers))
        return {key: answers[key] for key in questions}

    def visit_first(self, call: Call, url: str) -> None:
        call.ask("visited", "elicitation/create", {"mode": "url", "message": "Please sign in", "url": url})

    def log_level(self, call: Call) -> str | None:
        return call.meta.get(f"{META}logLevel")

    def tools_changed(self) -> None:
        for call, wanted in list(self.subscriptions):
            if wanted.get("toolsListChanged"):
                call.notify("tools/list_changed", _meta=_tag(call.id))

    def resource_updated(self, uri: str) -> None:
        for call, wanted in list(self.subscriptions):
            if uri in wanted.get("resourceSubscriptions", ()):
                call.notify("resources/updated", uri=uri, _meta=_tag(call.id))

    def take_notification(self, method: str, params: Json) -> None:
        if method == "notifications/cancelled":
            for call, _ in list(self.subscriptions):
                if call.id == params["requestId"]:
                    self.cancel(call)
        super().take_notification(method, params)

    def cancel(self, call: Call) -> None:
        if any(call is subscribed for subscribed, _ in self.subscriptions):
            self.subscriptions = [each for each in self.subscriptions if each[0] is not call]
        else:
            super().cancel(call)

    def serve(self) -> None:
        super().serve()
        for call, _ in self.subscriptions:
            call.send(id=call.id, result={"resultType": "complete", "_meta": _tag(call.id)})

    def run(self, method: Method, call: Call) -> Json | None:
        try:
            return super().run(method, call)
        except InputRequired as required:
            return required.result

    def _discover(self, call: Call) -> Json:
        offer = {"supportedVersions": [REVISION], "capabilities": self.capabilities}
        return offer | {"instructions": "A server for tests."}

    def _listen(self, call: Call) -> None:
        asked, kinds = call.params["notifications"], ("toolsListChanged", "resourceSubscriptions")
        wanted = {kind: asked[kind] for kind in kinds if asked.get(kind)}
        call.notify("subscriptions/acknowledged", notifications=wanted, _meta=_tag(call.id))
        self.subscriptions.append((call, wanted))


def unsupported(requested: str) -> Refusal:
    facts: dict[str, Any] = {"supported": [REVISION], "requested": requested}
    return Refusal(UNSUPPORTED_VERSION, "Unsupported protocol version", **facts)


def seal(call: Call, answers: Json) -> str:
    """*answers* so far, bound to the name and arguments of *call*, so that no other call can use them."""
    body = json.dumps({"call": _digest(call), "answers": answers}).encode()
    return base64.b64encode(hmac.digest(SEAL_KEY, body, "sha256") + body).decode()


def unseal(call: Call) -> Json:
    """The answers of earlier rounds and of this one. Input without the state it belongs to is dropped."""
    if (state := call.params.get("requestState")) is None:
        return {}
    try:
        sealed = base64.b64decode(state, validate=True)
    except ValueError:
        sealed = b""
    mac, body = sealed[:32], sealed[32:]
    if not hmac.compare_digest(mac, hmac.digest(SEAL_KEY, body, "sha256")):
        raise Refusal(INVALID_PARAMS, "This requestState is not mine")
    opened = json.loads(body)
    if opened["call"] != _digest(call):
        raise Refusal(INVALID_PARAMS, "This requestState belongs to another call")
    answers: Json = opened["answers"] | call.params.get("inputResponses", {})
    return answers


def _digest(call: Call) -> str:
    same = json.dumps([call.params["name"], call.params.get("arguments")], sort_keys=True)
    return hashlib.sha256(same.encode()).hexdigest()


def _tag(id: Id) -> Json:
    return {f"{META}subscriptionId": id}


def _refuse_handshake(call: Call) -> Json:
    raise unsupported(call.params["protocolVersion"])


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = options(description)
    parser.add_argument("--ttl-ms", type=int, default=60_000, help="how long lists may be cached")
    parser.add_argument("--cache-scope", choices=("public", "private"), default="public")
    return parser


if __name__ == "__main__":
    ModernServer(arguments(__doc__).parse_args()).serve()
