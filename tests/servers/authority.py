"""A real OAuth 2.1 authorization server for tests, on 127.0.0.1: `authority.py [--port N] [--opaque] [--path /tenant]`.

Prints its issuer URL once it listens. Whoever asks is let in at once, as `alice`; for the rest it keeps to the book:
metadata (RFC 8414 and OpenID Connect Discovery), PKCE with S256 and nothing else, `resource` (RFC 8707), `iss` in each
answer to a browser (RFC 9207), registration (RFC 7591), codes and refresh tokens that are good once, client
credentials, introspection (RFC 7662), revocation (RFC 7009), access tokens as RFC 9068 wants them, or opaque ones.

In a test: `async with Authority() as authority: …`, then `authority.token(aud=…)` mints whatever is wanted, good or
broken; `rotate`, `shift_s`, `trouble`, `shut` and `open` make it behave as authorization servers do on a bad day.
As a process it takes the same by POST: `/_control/rotate`, `/_control/trouble` (`{"trouble": "500"}`),
`/_control/clock` (`{"shift_s": 3600}`), `/_control/token` (`{"claims": {…}, "header": {…}}` -> the token).
"""

import argparse
import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType, TracebackType
from typing import Any, Final, Literal, Self, TypeAlias
from urllib.parse import unquote_plus, urlencode, urlsplit

from aiohttp import web
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

Json: TypeAlias = dict[str, Any]
Key: TypeAlias = RSAKey | ECKey | OKPKey
# `500`: an error; `hang`: no answer; `huge`: 10 MiB; `redirect`: to itself, for ever; `html`: a page; `gzip`: a bomb;
# `drip`: a byte now and then.
Trouble: TypeAlias = Literal["", "500", "hang", "huge", "redirect", "html", "gzip", "drip"]
Place: TypeAlias = Literal["oauth", "openid", "openid-appended"]

ABSENT: Final = ...  # as the value of a claim or a header member: leave it out
AUDIENCE: Final = "https://gw.example.com/mcp"
MACHINE: Final = ("machine", "machine-secret")  # a confidential client that needs no registration
SUBJECT: Final = "alice"
LIFETIME_S: Final = 300
_CODE_S: Final = 60


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def compact(header: Json | bytes, claims: Json | bytes, sign: Callable[[bytes], bytes]) -> str:
    """A JWS of these parts, whatever they are; *sign* gives the signature of what is signed."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signed = ".".join(map(base64url, parts))
    return f"{signed}.{base64url(sign(signed.encode()))}"


class SigningKey:
    """A private key under a name, and what of it is published."""

    def __init__(self, alg: str, kid: str | None = None) -> None:
        self.alg = alg
        self.kid = kid or secrets.token_hex(8)
        self.private = self._made(alg)

    @staticmethod
    def _made(alg: str) -> Key:
        if alg.startswith("ES"):
            return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg])
        return OKPKey.generate_key("Ed25519") if alg.startswith("Ed") else RSAKey.generate_key(2048)

    def sign(self, content: bytes) -> bytes:
        return JWSRegistry.algorithms[self.alg].sign(content, self.private)

    @property
    def pem(self) -> bytes:
        return self.private.as_pem()

    def published(self, **members: Any) -> Json:
        """As it stands in a JWKS, with other *members* on request."""
        public = {name: value for name, value in self.private.as_dict(private=False).items() if name != "kid"}
        return {**public, "kid": self.kid, "use": "sig", "alg": self.alg, **members}


@dataclass
class Client:
    id: str
    secret: str | None = None
    redirect_uris: list[str] = field(default_factory=list)
    grant_types: list[str] = field(default_factory=lambda: ["authorization_code"])


@dataclass
class Grant:
    """What was allowed to a client, until it has fetched its tokens."""

    client: str
    scope: str
    resources: list[str]
    redirect_uri: str = ""
    challenge: str = ""
    expires_at_s: float = 0.0


class Refused(Exception):
    """An error of the protocol: its code, and the status where it is answered directly."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code, self.description, self.status = code, description, status


class Authority:
    """One authorization server; it can be shut and opened again, and remembers everything."""

    def __init__(
        self,
        *,
        algs: Sequence[str] = ("RS256",),
        path: str = "",
        port: int = 0,
        opaque: bool = False,
        scopes: Sequence[str] | None = None,
        places: Sequence[Place] = ("oauth", "openid", "openid-appended"),
    ) -> None:
        self.keys = [SigningKey(alg) for alg in algs]  # the first signs
        self.extra_keys: list[Any] = []  # published beside them, whatever they are
        self.path = path.rstrip("/")
        self.port = port
        self.opaque = opaque
        self.scopes = scopes
        self.places = places
        self.shift_s = 0.0  # how far its clock is ahead
        self.trouble: Trouble = ""
        self.metadata_members: Json = {}  # instead of what its metadata say
        self.asked: Counter[str] = Counter()  # requests, by the last part of their path
        self._news = asyncio.Event()
        self.clients = {MACHINE[0]: Client(MACHINE[0], MACHINE[1], grant_types=["client_credentials"])}
        self._codes: dict[str, Grant] = {}
        self._refresh: dict[str, Grant] = {}
        self._tokens: dict[str, Json] = {}  # what it knows of each token it issued itself
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    # ---- life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.shut()

    async def open(self) -> None:
        """Listen; again on the same port after it was shut."""
        self._released = asyncio.Event()
        self._runner = web.AppRunner(self._application(), handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def shut(self) -> None:
        """Refuse connections."""
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def was_asked(self, document: str, times: int) -> None:
        """Once it was asked for *document* (`jwks`, `introspect`) so many times in all."""
        async with asyncio.timeout(5):
            while self.asked[document] < times:
                self._news.clear()
                await self._news.wait()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        return self.origin + self.path

    def now_s(self) -> float:
        return time.time() + self.shift_s

    # ---- keys and tokens

    def rotate(self, *, keep: bool = True) -> SigningKey:
        """Sign with a new key from now on; the old ones stay published, or are gone at once."""
        fresh = SigningKey(self.keys[0].alg)
        self.keys = [fresh, *(self.keys if keep else ())]
        return fresh

    def jwks(self) -> Json:
        return {"keys": [*(key.published() for key in self.keys), *self.extra_keys]}

    def token(
        self,
        *,
        alg: str | None = None,
        signed_with: SigningKey | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A JWT access token for AUDIENCE, with other claims and header members on request; `...` leaves one out."""
        key = signed_with or next(key for key in self.keys if alg in (None, key.alg))
        said = {"alg": key.alg, "typ": "at+jwt", "kid": key.kid, **(header or {})}
        return compact(_without_absent(said), self.claims(**claims), key.sign)

    def claims(self, **claims: Any) -> Json:
        """What `token` puts into a token."""
        now_s = int(self.now_s())
        usual = {
            "iss": self.issuer,
            "sub": SUBJECT,
            "aud": AUDIENCE,
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
            "jti": secrets.token_hex(8),
            "client_id": "test",
        }
        return _without_absent({**usual, **claims})

    def opaque_token(self, **claims: Any) -> str:
        """A token that only this server can say something about."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = self.claims(**claims)
        return token

    def revoke(self, token: str) -> None:
        self._tokens.pop(token, None)

    def _issued(self, subject: str, grant: Grant) -> str:
        audience = grant.resources[0] if len(grant.resources) == 1 else grant.resources or AUDIENCE
        claims: Json = {"sub": subject, "aud": audience, "client_id": grant.client, "scope": grant.scope or ABSENT}
        if self.opaque:
            return self.opaque_token(**claims)
        token = self.token(**claims)
        self._tokens[token] = self.claims(**claims)
        return token

    # ---- the web

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._behave])
        appended = f"{self.path}/.well-known/openid-configuration"
        documents = {
            "oauth": f"/.well-known/oauth-authorization-server{self.path}",
            "openid": f"/.well-known/openid-configuration{self.path}",
            "openid-appended": appended,
        }
        for url in {documents[place] for place in self.places}:
            application.router.add_get(url, self._metadata)
        application.router.add_get(f"{self.path}/jwks", self._jwks)
        application.router.add_get(f"{self.path}/authorize", self._authorize)
        for name in ("token", "register", "introspect", "revoke"):
            application.router.add_post(f"{self.path}/{name}", getattr(self, f"_{name}"))
        for name in ("rotate", "trouble", "clock", "token"):
            application.router.add_post(f"/_control/{name}", self._control)
        application.router.add_route("OPTIONS", "/{anything:.*}", self._preflight)
        return application

    @web.middleware
    async def _behave(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answers as the book says, unless there is trouble."""
        if request.path.startswith("/_control/"):
            return await handler(request)
        self.asked[request.path.rsplit("/", 1)[-1]] += 1
        self._news.set()
        if self.trouble:
            return await self._troubled(request)
        try:
            response = await handler(request)
        except Refused as refused:
            response = web.json_response(
                {"error": refused.code, "error_description": refused.description}, status=refused.status
            )
            if refused.status == 401:
                response.headers["www-authenticate"] = 'Basic realm="authority"'
        response.headers["access-control-allow-origin"] = "*"
        return response

    async def _troubled(self, request: web.Request) -> web.StreamResponse:
        match self.trouble:
            case "hang":
                await self._released.wait()
            case "huge":
                return web.Response(body=b" " * 10 * 1024 * 1024, content_type="application/json")
            case "redirect":
                return web.Response(status=302, headers={"location": str(request.url)})
            case "html":
                return web.Response(text="<html>Welcome</html>", content_type="text/html")
            case "gzip":
                response = web.json_response({"keys": [], "padding": "0" * 1_000_000})
                response.enable_compression(web.ContentCoding.gzip)
                response.headers["vary"] = "accept-encoding"
                return response
            case "drip":
                return await self._dripped(request)
            case _:
                pass
        return web.Response(status=500, text="out of order")

    async def _dripped(self, request: web.Request) -> web.StreamResponse:
        """One byte, and the rest when the server goes down."""
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        await response.write(b"{")
        await self._released.wait()
        return response

    async def _preflight(self, request: web.Request) -> web.Response:
        return web.Response(
            status=204, headers={"access-control-allow-methods": "GET, POST", "access-control-allow-headers": "*"}
        )

    async def _metadata(self, request: web.Request) -> web.Response:
        authentication = ["none", "client_secret_basic", "client_secret_post"]
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "registration_endpoint": f"{self.issuer}/register",
            "introspection_endpoint": f"{self.issuer}/introspect",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": authentication,
            "introspection_endpoint_auth_methods_supported": authentication[1:],
            "authorization_response_iss_parameter_supported": True,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        if self.scopes is not None:
            document["scopes_supported"] = list(self.scopes)
        return web.json_response(_without_absent({**document, **self.metadata_members}))

    async def _jwks(self, request: web.Request) -> web.Response:
        return web.json_response(self.jwks())

    # ---- login

    async def _authorize(self, request: web.Request) -> web.Response:
        """Whoever comes is alice, and says yes."""
        asked = request.query
        client, redirect_uri = self.clients.get(asked.get("client_id", "")), asked.get("redirect_uri", "")
        if client is None or not _is_registered(redirect_uri, client.redirect_uris):
            raise Refused("invalid_request", "unknown client, or a redirect_uri that is not registered")
        answer = {"iss": self.issuer, "state": asked.get("state", "")}
        try:
            answer["code"] = self._code(client, redirect_uri, request)
        except Refused as refused:
            answer |= {"error": refused.code, "error_description": refused.description}
        joint = "&" if urlsplit(redirect_uri).query else "?"
        query = urlencode({name: value for name, value in answer.items() if value})
        return web.Response(status=302, headers={"location": f"{redirect_uri}{joint}{query}"})

    def _code(self, client: Client, redirect_uri: str, request: web.Request) -> str:
        asked = request.query
        if asked.get("response_type") != "code":
            raise Refused("unsupported_response_type", "only code")
        if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
            raise Refused("invalid_request", "PKCE with S256 is required")
        resources = _resources(asked.getall("resource", []))
        code = secrets.token_urlsafe(24)
        scope = self._scope(asked.get("scope", ""))
        ends_s = self.now_s() + _CODE_S
        self._codes[code] = Grant(client.id, scope, resources, redirect_uri, asked["code_challenge"], ends_s)
        return code

    def _scope(self, asked: str) -> str:
        if self.scopes is None:
            return asked
        unknown = set(asked.split()) - set(self.scopes)
        if unknown:
            raise Refused("invalid_scope", f"unknown: {' '.join(sorted(unknown))}")
        return asked or " ".join(self.scopes)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        client = self._client(request, {name: str(value) for name, value in form.items()})
        asked = {name: str(value) for name, value in form.items()}
        resources = _resources([str(value) for value in form.getall("resource", [])])
        kind = asked.get("grant_type", "")
        if kind not in client.grant_types:
            known = kind in ("authorization_code", "refresh_token", "client_credentials")
            raise Refused("unauthorized_client" if known else "unsupported_grant_type", "not for this client")
        if kind == "client_credentials":
            grant = Grant(client.id, self._scope(asked.get("scope", "")), resources)
            return self._tokens_for(client.id, grant, client)
        grant = self._redeemed(asked, client) if kind == "authorization_code" else self._refreshed(asked, client)
        if not set(resources) <= set(grant.resources) and grant.resources:
            raise Refused("invalid_target", "a resource that was not authorized")
        narrowed = Grant(client.id, grant.scope, resources or grant.resources)
        return self._tokens_for(SUBJECT, narrowed, client)

    def _redeemed(self, asked: Mapping[str, str], client: Client) -> Grant:
        grant = self._codes.pop(asked.get("code", ""), None)
        if grant is None or grant.client != client.id or grant.expires_at_s < self.now_s():
            raise Refused("invalid_grant", "no such code, or no longer")
        digest = base64url(hashlib.sha256(asked.get("code_verifier", "").encode()).digest())
        if grant.challenge != digest or asked.get("redirect_uri", grant.redirect_uri) != grant.redirect_uri:
            raise Refused("invalid_grant", "the verifier or the redirect_uri is another one")
        return grant

    def _refreshed(self, asked: Mapping[str, str], client: Client) -> Grant:
        grant = self._refresh.pop(asked.get("refresh_token", ""), None)
        if grant is None or grant.client != client.id:
            raise Refused("invalid_grant", "no such refresh token, or used before")
        wanted = set(asked.get("scope", grant.scope).split())
        if not wanted <= set(grant.scope.split()):
            raise Refused("invalid_scope", "more than was granted")
        return Grant(client.id, " ".join(sorted(wanted)), grant.resources)

    def _tokens_for(self, subject: str, grant: Grant, client: Client) -> web.Response:
        answer: Json = {
            "access_token": self._issued(subject, grant),
            "token_type": "Bearer",
            "expires_in": LIFETIME_S,
            "scope": grant.scope,
        }
        if "refresh_token" in client.grant_types:
            answer["refresh_token"] = secrets.token_urlsafe(32)
            self._refresh[answer["refresh_token"]] = grant
        return web.json_response(answer, headers={"cache-control": "no-store"})

    def _client(self, request: web.Request, form: Mapping[str, str]) -> Client:
        """Who asks, by Basic or by the form; a client without a secret by its name alone."""
        id, secret = form.get("client_id", ""), form.get("client_secret")
        kind, _, encoded = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                decoded = base64.b64decode(encoded, validate=True).decode()
            except ValueError:
                decoded = ""
            id, _, secret = (unquote_plus(part) for part in decoded.partition(":"))
        client = self.clients.get(id)
        if client is None or (client.secret or "") != (secret or ""):
            raise Refused("invalid_client", "unknown client, or a wrong secret", 401)
        return client

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        redirect_uris = asked.get("redirect_uris", [])
        grants = asked.get("grant_types") or ["authorization_code"]
        if "authorization_code" in grants and (not redirect_uris or not all(map(_may_redirect, redirect_uris))):
            raise Refused("invalid_redirect_uri", "https, a loopback address, or a scheme of an application")
        method = asked.get("token_endpoint_auth_method", "client_secret_basic")
        secret = None if method == "none" else secrets.token_urlsafe(24)
        client = Client(secrets.token_hex(12), secret, redirect_uris, grants)
        self.clients[client.id] = client
        answer = {**asked, "client_id": client.id, "client_id_issued_at": int(self.now_s())}
        answer |= {"grant_types": grants, "token_endpoint_auth_method": method}
        answer |= {"response_types": asked.get("response_types", ["code"])}
        answer |= {"client_secret": secret, "client_secret_expires_at": 0} if secret else {}
        return web.json_response(answer, status=201, headers={"cache-control": "no-store"})

    # ---- what becomes of tokens

    async def _introspect(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if self._client(request, form).secret is None:
            raise Refused("invalid_client", "only for clients with a secret", 401)
        known = self._tokens.get(form.get("token", ""))
        if known is None or known.get("exp", self.now_s() + 1) <= self.now_s():
            return web.json_response({"active": False})
        return web.json_response({"active": True, "token_type": "Bearer", **known})

    async def _revoke(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self._client(request, form)
        self.revoke(form.get("token", ""))
        self._refresh.pop(form.get("token", ""), None)
        return web.Response()

    async def _control(self, request: web.Request) -> web.Response:
        """A test in another process turns the knobs."""
        asked = await request.json() if request.can_read_body else {}
        match request.path.rsplit("/", 1)[-1]:
            case "rotate":
                return web.json_response({"kid": self.rotate(keep=asked.get("keep", True)).kid})
            case "trouble":
                self.trouble = asked["trouble"]
            case "clock":
                self.shift_s = float(asked["shift_s"])
            case _:
                claims = asked.get("claims", {})
                opaque = asked.get("opaque", self.opaque)
                token = self.opaque_token(**claims) if opaque else self.token(header=asked.get("header"), **claims)
                return web.json_response({"token": token})
        return web.json_response({})


def _without_absent(members: Mapping[str, Any | EllipsisType]) -> Json:
    return {name: value for name, value in members.items() if value is not ABSENT}


def _resources(said: Sequence[str]) -> list[str]:
    """RFC 8707, 2: absolute URIs without a fragment."""
    for resource in said:
        if not urlsplit(resource).scheme or "#" in resource:
            raise Refused("invalid_target", "a resource is an absolute URI without a fragment")
    return list(said)


def _is_loopback(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")


def _may_redirect(uri: str) -> bool:
    scheme = urlsplit(uri).scheme
    return "#" not in uri and (_is_loopback(uri) or scheme not in ("", "http", "javascript", "data", "file"))


def _is_registered(uri: str, registered: Sequence[str]) -> bool:
    """Letter for letter; on loopback the port may be another one (RFC 8252, 7.3)."""
    if uri in registered:
        return True
    return _is_loopback(uri) and _portless(uri) in [_portless(known) for known in registered if _is_loopback(known)]


def _portless(uri: str) -> tuple[str | None, str, str]:
    parts = urlsplit(uri)
    return parts.hostname, parts.path, parts.query


async def serve(options: argparse.Namespace) -> None:
    scopes = options.scopes.split() if options.scopes else None
    authority = Authority(
        algs=options.alg or ["RS256"], path=options.path, port=options.port, opaque=options.opaque, scopes=scopes
    )
    async with authority:
        print(authority.issuer, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="", help="of the issuer, such as /tenant1")
    parser.add_argument("--opaque", action="store_true", help="issue opaque tokens instead of JWTs")
    parser.add_argument("--alg", action="append", help="RS256 (default), ES256, EdDSA; the first one signs")
    parser.add_argument("--scopes", default="", help="all there are, separated by spaces (default: whatever is asked)")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
