"""The one way out for what is fetched from authorization servers: which URLs and addresses may be reached at all.

`acceptable` and `allowed` are plain decisions. `session` makes an aiohttp session for one URL that asks them again
for every address that its name stands for, and for the address of each connection that is really made, so that
a name that changes its mind between the two (DNS rebinding) gains nothing. Redirects are not followed.
Source: security.md, group H; RFC 6890; WHATWG URL, "ends in a number".
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Reach: TypeAlias = Literal["public", "private", "loopback", "never"]

MAX_URL_CHARS: Final = 2048
TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0, sock_connect=3.0)

# Printable ASCII, without what parsers disagree about: backslashes, quotes, angle brackets, spaces.
_PLAIN: Final = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_METADATA_NAMES: Final = frozenset(
    {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}
)
# Ports of services that speak no HTTP and may do harm with what they take for a command.
_OTHER_SERVICES: Final = frozenset(
    (
        *(1433, 1521, 2049, 2375, 2379, 3306, 3389, 4369, 5432, 5672, 5900, 6000, 6379, 6380, 6667, 9042, 9092),
        *(10250, 11211, 26379, 27017),
    )
)

_V4: Final = ipaddress.IPv4Network
_V6: Final = ipaddress.IPv6Network
# Where clouds tell machines their secrets; some of them stand among private or even public addresses.
_METADATA: Final = (
    *(_V4("169.254.0.0/16"), _V4("100.100.100.200/32"), _V4("192.0.0.192/32"), _V4("168.63.129.16/32")),
    *(_V6("fd00:ec2::/32"), _V6("fd20:ce::/32")),
)
_PRIVATE: Final = (
    *(_V4("10.0.0.0/8"), _V4("172.16.0.0/12"), _V4("192.168.0.0/16"), _V4("100.64.0.0/10")),
    _V6("fc00::/7"),
)
_NAT64: Final = _V6("64:ff9b::/96")
_GLOBAL_UNICAST: Final = _V6("2000::/3")  # whatever is not in here is a translation, a tunnel, or not routed
# Protocol assignments with Teredo among them, relays and documentation, which not every Python knows yet.
_NEVER: Final = (*_METADATA, _V6("2001::/23"), _V6("3fff::/20"), _V4("192.88.99.0/24"), _V4("192.0.0.0/24"))
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # the upper half of an interface id, before an IPv4 address


class FetchFailed(Exception):
    """Why there is no answer; *missing* when the server said that there is no such document."""

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


# ---- decisions


def acceptable(url: str, *, origin_host: str) -> str | None:
    """Why *url* must not be fetched, as far as its text tells; None when it may be.

    *origin_host* is the host that the operator wrote in the configuration and *url* was found from.
    """
    if len(url) > MAX_URL_CHARS or not _PLAIN.fullmatch(url):
        return "the URL has characters that do not belong in one, or too many of them"
    parsed = _parsed(url)
    if parsed is None or not parsed.absolute or parsed.raw_host is None:
        return "the URL cannot be read"
    host = parsed.raw_host
    at_origin = host == origin_host.lower()
    # By the text as well: a parser drops what is empty, and another one need not.
    if parsed.user is not None or "@" in url.partition("://")[2].partition("/")[0] or "#" in url:
        return "the URL holds credentials or a fragment"
    if (odd := _odd_host(host)) is not None:
        return odd
    if parsed.scheme != "https" and not (parsed.scheme == "http" and at_origin and is_loopback(host)):
        return "the URL is not https"
    if is_loopback(host) and not is_loopback(origin_host.lower()):
        return "the URL leads back to this machine"
    return _odd_port(parsed.port, at_origin)


def allowed(url: str, addresses: Iterable[str], *, origin_host: str) -> str | None:
    """Why *url* must not be fetched, with every one of the *addresses* that its host stands for; None when it may be.

    A loopback address is for an origin that is written as one, a private address for the very host that the
    operator wrote, and the addresses where clouds keep secrets are for nobody.
    """
    if (reason := acceptable(url, origin_host=origin_host)) is not None:
        return reason
    host = host_of(url)
    found = [_address(address) for address in addresses]
    if (literal := _address(host)) is not None:
        found.append(literal)
    if not found:
        return "the host of the URL has no address"
    kinds = {reach(address) if address is not None else "never" for address in found}
    if is_loopback(host):
        reachable: tuple[Reach, ...] = ("loopback",)
    else:
        reachable = ("public", "private") if host == origin_host.lower() else ("public",)
    # One bad address among good ones is how a check is led astray: all of them are good, and of one kind.
    if not any(kinds == {kind} for kind in reachable):
        return "the host of the URL has an address that must not be reached from here"
    return None


def is_loopback(host: str) -> bool:
    """Whether *host* is written as this very machine: `localhost`, a name under it, or a loopback address."""
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") if address is None else address.is_loopback


def host_of(url: str) -> str:
    """The host of *url* as the configuration has it; "" when it cannot be read."""
    parsed = _parsed(url)
    return (parsed.raw_host or "") if parsed is not None else ""


def reach(address: Address) -> Reach:
    """What kind of place *address* is, with those that are wrapped in it: the worst of them counts."""
    inner = _wrapped(address)
    if inner is not None:
        return reach(inner)
    if address.is_loopback:
        return "loopback"
    if _within(address, _NEVER):
        return "never"
    if _within(address, _PRIVATE):
        return "private"
    routed = address.version == 4 or address in _GLOBAL_UNICAST
    return "public" if routed and address.is_global and not address.is_multicast else "never"


def _wrapped(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to *address* end up at, where it is a mapped, translated or tunnelled one."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    low = int(address) & 0xFFFF_FFFF
    if address in _NAT64 or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(low)
    return None


def _within(address: Address, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _parsed(url: str) -> URL | None:
    try:
        parsed = URL(url)
        _ = parsed.port  # is read late, and may be no number
    except (ValueError, TypeError):
        return None
    return parsed


def _odd_host(host: str) -> str | None:
    """What is wrong with a host that resolvers may read in a way of their own."""
    if _address(host) is not None:
        return "the URL has an address with a zone" if "%" in host else None
    if not _NAME.fullmatch(host) or len(host) > 253:
        return "the host of the URL is not a plain name"
    if _NUMBER.fullmatch(host.rsplit(".", 1)[-1]):
        # `2130706433`, `0x7f.1` and `127.1` are no addresses to us, and 127.0.0.1 to a resolver.
        return "the host of the URL is a number in disguise"
    return "the host of the URL is where clouds keep secrets" if host in _METADATA_NAMES else None


def _odd_port(port: int | None, at_origin: bool) -> str | None:
    if not at_origin:
        return None if port == 443 else "the URL has a port that the configuration does not name"
    if port is None or port in _OTHER_SERVICES or (port < 1024 and port not in (80, 443)):
        return "the URL has the port of another service"
    return None


# ---- the way out


class _CheckedResolver(AbstractResolver):
    """Names to addresses, all of them good, or none at all."""

    def __init__(self, url: str, origin_host: str) -> None:
        self._url = url
        self._origin_host = origin_host
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        reason = allowed(self._url, (result["host"] for result in found), origin_host=self._origin_host)
        if reason is not None:
            raise OSError(None, reason)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def session(url: str, *, origin_host: str, connections: int = 1) -> aiohttp.ClientSession:
    """An HTTP session for *url* alone, whose every connection is checked. Close it.

    Raises FetchFailed if the text of *url* is enough to refuse it.
    """
    if (reason := acceptable(url, origin_host=origin_host)) is not None:
        raise FetchFailed(reason)

    def checked_socket(found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, place = found
        reason = allowed(url, [place[0]], origin_host=origin_host)
        if reason is not None:
            raise OSError(None, reason)
        return socket.socket(family=family, type=kind, proto=protocol)

    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(url, origin_host), socket_factory=checked_socket, limit=connections
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=TIMEOUT,
        trust_env=False,  # a proxy of the environment would connect in our stead, to what nobody has checked
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "bascule"},
    )


async def answer(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    limit_bytes: int,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> bytes:
    """The body of a 200 answer, whatever type it says it is. Raises FetchFailed for everything else."""
    try:
        async with http.request(method, url, headers=headers, data=form, allow_redirects=False) as response:
            if response.status != 200:
                missing = 400 <= response.status < 500
                raise FetchFailed(f"the answer is HTTP {response.status}", missing=missing)
            if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                raise FetchFailed("the answer is compressed, which was not asked for")
            return await _bounded(response, limit_bytes)
    except TimeoutError as error:
        raise FetchFailed("no answer in time") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchFailed(f"{type(error).__name__}: {error}") from error


async def _bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(16_384):
        body += chunk
        if len(body) > limit_bytes:
            raise FetchFailed(f"the answer is longer than {limit_bytes} bytes")
    return bytes(body)


async def get(url: str, *, origin_host: str, limit_bytes: int) -> bytes:
    """The document at *url*, with a connection of its own: it is asked for rarely. Raises FetchFailed."""
    async with session(url, origin_host=origin_host) as http:
        return await answer(http, "GET", url, limit_bytes=limit_bytes)
