"""The official Python SDK, 2.x, as a client that logs in: `login.py [--mode …] [--call TOOL JSON]… URL`.

It is all the SDK's: discovery, registration, PKCE, tokens, step-up. Here are only the browser, which approves
whatever it is sent to, and a book of what was asked of whom. Prints one JSON report; what went wrong is in it.
"""

import argparse
import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
from mcp import Client, MCPError
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, TokenStorage
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp_types import CallToolResult, TextContent
from pydantic import AnyUrl

CALLBACK: Final = "http://localhost:3000/callback"  # nobody listens there: the browser stops before it
TIMEOUT_S: Final = 30.0


class Pocket(TokenStorage):
    """What a client keeps: its registration, and the newest token. All tokens stay known for the report."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.tokens: list[OAuthToken] = []
        self.client: OAuthClientInformationFull | None = None
        if args.client_id:
            self.client = OAuthClientInformationFull(
                client_id=args.client_id,
                client_secret=args.client_secret,
                redirect_uris=[AnyUrl(CALLBACK)],
                token_endpoint_auth_method="client_secret_basic" if args.client_secret else "none",
            )

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens[-1] if self.tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens.append(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """Opens the page that a client sends its user to, whose server approves at once, and reads the redirect."""

    def __init__(self) -> None:
        self.authorizations: list[dict[str, str]] = []
        self._answers: dict[str, list[str]] = {}

    async def open(self, url: str) -> None:
        self.authorizations.append(dict(parse_qsl(urlsplit(url).query)))
        async with httpx2.AsyncClient(timeout=TIMEOUT_S) as http:
            response = await http.get(url, follow_redirects=False)
        self._answers = parse_qs(urlsplit(response.headers.get("location", "")).query)

    async def answer(self) -> AuthorizationCodeResult:
        code, state, iss = (self._answers.get(name, [None])[0] for name in ("code", "state", "iss"))
        if code is None:
            raise OAuthFlowError(f"no code in the redirect: {self._answers}")
        return AuthorizationCodeResult(code=code, state=state, iss=iss)


class Visit:
    """One client with its pocket and browser, and the book of its requests."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.pocket = Pocket(args)
        self.browser = Browser()
        self.requests: list[dict[str, Any]] = []
        self.tools: list[str] = []
        self.answers: list[Any] = []
        self.failed: str | None = None

    async def noted(self, response: httpx2.Response) -> None:
        request = response.request
        self.requests.append({
            "method": request.method,
            "url": str(request.url),
            "status": response.status_code,
            "challenge": response.headers.get("www-authenticate"),
        })  # fmt: skip

    def http(self) -> httpx2.AsyncClient:
        provider = OAuthClientProvider(
            server_url=self.args.url,
            client_metadata=OAuthClientMetadata(
                client_name="login",
                redirect_uris=[AnyUrl(CALLBACK)],
                grant_types=["authorization_code", "refresh_token"],
                response_types=["code"],
            ),
            storage=self.pocket,
            redirect_handler=self.browser.open,
            callback_handler=self.browser.answer,
            client_metadata_url=self.args.client_url,
        )
        hooks = {"response": [self.noted]}
        return httpx2.AsyncClient(auth=provider, timeout=TIMEOUT_S, event_hooks=hooks)

    def transport(self) -> Any:
        if self.args.transport == "sse":
            http = self.http()
            return sse_client(self.args.url, auth=http.auth)
        return streamable_http_client(url=self.args.url, http_client=self.http())

    async def work(self) -> None:
        async with Client(self.transport(), mode=self.args.mode) as client:
            self.tools = [tool.name for tool in (await client.list_tools()).tools]
            calls = self.args.call or [(self.tools[0], "{}")] if self.tools else []
            for name, arguments in calls:
                try:
                    self.answers.append(said(await client.call_tool(name, json.loads(arguments))))
                except (MCPError, OAuthFlowError) as error:
                    self.answers.append({"failed": str(error)})

    def report(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "authorizations": self.browser.authorizations,
            "tokens": [{"token": each.access_token, "scope": each.scope} for each in self.pocket.tokens],
            "tools": self.tools,
            "answers": self.answers,
            "failed": self.failed,
        }


def said(result: CallToolResult) -> Any:
    text = "".join(block.text for block in result.content if isinstance(block, TextContent))
    return {"failed": text} if result.is_error else text


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


async def main(args: argparse.Namespace) -> None:
    visit = Visit(args)
    try:
        await visit.work()
    except Exception as error:  # whatever ends a login is what the report is about
        visit.failed = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error))
    print(json.dumps(visit.report()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", default="auto", help="legacy, auto or a version")
    parser.add_argument("--transport", choices=("http", "sse"), default="http")
    parser.add_argument("--client-id", help="a client that is registered already")
    parser.add_argument("--client-secret")
    parser.add_argument("--client-url", help="the URL of a client id metadata document")
    parser.add_argument("--call", nargs=2, action="append", metavar=("TOOL", "JSON"), help="default: the first tool")
    parser.add_argument("url")
    asyncio.run(main(parser.parse_args()))
