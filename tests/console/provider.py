"""A small OpenID provider on 127.0.0.1: the authority of tests/servers, which also says who somebody is.

It signs in whomever `person` describes, at once, and puts the nonce of the question into its ID token.
"""

import json
from typing import Any, Final

from aiohttp import web
from authority import Authority, Client, Json, compact

CLIENT: Final = "console"
SECRET: Final = "console-secret"


class Provider(Authority):
    """An authority with ID tokens."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.person: Json = {"sub": "u-17", "groups": ["staff", "ops"]}
        self.id_claims: Json = {}  # instead of what an ID token would say
        self.nonces: dict[str, str] = {}

    def register(self, redirect_url: str) -> None:
        """Know the console as a client that is sent back there."""
        self.clients[CLIENT] = Client(CLIENT, SECRET, [redirect_url])

    def config(self, **more: Any) -> Json:
        """`console.oidc` for this provider."""
        said = {"issuer": self.issuer, "client_id": CLIENT, "client_secret": "${env:CONSOLE_SECRET}"}
        return {**said, "roles": {"ops": "admin", "sales": "viewer"}, **more}

    def id_token(self, nonce: str) -> str:
        key = self.keys[0]
        claims = {**self.claims(aud=CLIENT), **self.person, "nonce": nonce, **self.id_claims}
        return compact({"alg": key.alg, "typ": "JWT", "kid": key.kid}, claims, key.sign)

    async def _authorize(self, request: web.Request) -> web.Response:
        response = await super()._authorize(request)
        code = response.headers["location"].partition("code=")[2].partition("&")[0]
        self.nonces[code] = request.query.get("nonce", "")
        return response

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        response = await super()._token(request)
        assert isinstance(response.body, bytes)
        answer = {**_json(response.body), "id_token": self.id_token(self.nonces.get(str(form.get("code")), ""))}
        return web.json_response(answer, headers={"cache-control": "no-store"})


def _json(body: bytes) -> Json:
    found: Json = json.loads(body)
    return found
