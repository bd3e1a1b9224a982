"""The one way out: which URLs and addresses may be reached at all, and how much of an answer is taken.

Three kinds of URL come here. One that a document names which was found from the operator's (`get`, `session`, `answer`:
what authorization servers and registries publish); one that is put together below what the operator wrote (`ask`); and
one that a model or a stranger wrote (`fetch`).
`acceptable`, `allowed` and `permitted` are plain decisions. Every session asks them again for each address that
a name stands for, and for the address of each connection that is really made, so that a name that changes its mind
between the two (DNS rebinding) gains nothing. Answers are bounded in size, as sent and unpacked, and in time.
Source: security.md, group H, L04, T12, T13, T35; RFC 6890; WHATWG URL, "ends in a number".
"""

import asyncio
import ipaddress
import re
import socket
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

import aiohttp
import jiter
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Reach: TypeAlias = Literal["public", "private", "loopback", "never"]

MAX_URL_CHARS: Final = 2048
MAX_BYTES: Final = 16 * 1024 * 1024  # of any answer, unpacked
TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0, sock_connect=3.0)
# gzip packs at most 1032 to 1, and pages hardly ever 50 to 1; the first MiB is nobody's bomb.
MAX_RATIO: Final = 100
_UNSUSPECTED_BYTES: Final = 1024 * 1024
_CHUNK_BYTES: Final = 65_536

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


class Unreached(FetchFailed):
    """No connection, or one that broke. Its words are for operators: they name hosts and addresses."""


class Moved(FetchFailed):
    """The answer is a redirect that is not followed; *url* is where to, if that can be a URL at all."""

    def __init__(self, reason: str, url: str | None) -> None:
        super().__init__(reason)
        self.url = url


class Answer(msgspec.Struct, frozen=True):
    """What a server answered, whole: nothing of it is cut off."""

    url: str  # that gave it, after redirects
    status: int
    headers: Mapping[str, str]  # by names in small letters; of several of one name, the first
    body: bytes

    @property
    def type(self) -> str:
        """The media type, in small letters and without parameters; "" when it is not said."""
        return _type_of(self.headers.get("content-type", ""))

    def json(self) -> Any:
        """The body as JSON, in which no name may stand twice. Raises FetchFailed if it is none."""
        try:
            return jiter.from_json(self.body, catch_duplicate_keys=True, allow_inf_nan=False)
        except ValueError as error:
            raise FetchFailed("the answer is not JSON") from error


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


def permitted(url: str, allowed_hosts: Collection[str] = ()) -> str | None:
    """Why a *url* that a model wrote must not be fetched, as far as its text tells; None when it may be.

    It leads to https at its usual port and to public addresses; or, when the operator wrote *allowed_hosts*
    (`docs.example.com`, `127.0.0.1:8001`), to exactly these, which may be private ones or this machine.
    """
    host = host_of(url)
    if (reason := acceptable(url, origin_host=_origin_host(url, allowed_hosts))) is not None:
        return reason
    if allowed_hosts and _origin_host(url, allowed_hosts) != host:
        return "the host of the URL, with its port, is none of those that the operator allows"
    if _address(host) is not None:
        return allowed(url, [host], origin_host=_origin_host(url, allowed_hosts))
    return None


def is_host(text: str) -> bool:
    """Whether *text* can stand among `allowed_hosts`: a name or an address in small letters, and perhaps a port."""
    parsed = _parsed(f"https://{text}/")
    if parsed is None or not _PLAIN.fullmatch(text) or not parsed.raw_host or parsed.path != "/":
        return False
    host = f"[{parsed.raw_host}]" if ":" in parsed.raw_host else parsed.raw_host
    return text in (host, f"{host}:{parsed.port}") and _odd_host(parsed.raw_host) is None


def _origin_host(url: str, allowed_hosts: Collection[str]) -> str:
    """The host of *url* if the operator allows it, with its port; "" for one that nobody wrote."""
    parsed = _parsed(url)
    if parsed is None or parsed.raw_host is None:
        return ""
    host = f"[{parsed.raw_host}]" if ":" in parsed.raw_host else parsed.raw_host
    usual = {"https": 443, "http": 80}.get(parsed.scheme)
    names = {f"{host}:{parsed.port}"} | ({host} if parsed.port == usual else set())
    return parsed.raw_host if names & set(allowed_hosts) else ""


def below(base: str, *segments: str, query: Mapping[str, str | int] | None = None) -> str:
    """The URL of *segments* under *base*, each of them quoted whole, so that none leads elsewhere.

    Raises FetchFailed for a segment that is empty or made of dots.

    >>> below("https://api.example.com/v1", "customers", "a/../b", query={"limit": 3})
    'https://api.example.com/v1/customers/a%2F..%2Fb?limit=3'
    """
    if any(segment in ("", ".", "..") for segment in segments):
        raise FetchFailed("a part of the path is empty or leads elsewhere")
    path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
    return base.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")


def same_origin(url: str, base: str) -> bool:
    """Whether scheme, host and port of *url* are those of *base*, and its path begins with that of *base*."""
    one, other = _parsed(url), _parsed(base)
    if one is None or other is None or not one.scheme or not one.raw_host:
        return False
    if (one.scheme, one.raw_host, one.port) != (other.scheme, other.raw_host, other.port):
        return False
    path, root = (URL(text, encoded=True).raw_path.rstrip("/") for text in (url, base))
    # Whoever resolves `..` after us leaves what we have looked at.
    climbs = any(re.fullmatch(r"(?:\.|%2e){1,2}", part, re.IGNORECASE) for part in path.split("/"))
    return not climbs and f"{path}/".startswith(f"{root}/")


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
        parsed, as_sent = URL(url), URL(url, encoded=True)
        one_reading = parsed.port == as_sent.port and _is_same_host(parsed.raw_host, as_sent.raw_host)
    except (ValueError, TypeError):  # of a port that is no number, too
        return None
    return parsed if one_reading else None


def _is_same_host(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    address = _address(one)
    return one == other.lower() or (address is not None and address == _address(other))


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


def session(
    url: str, *, origin_host: str, connections: int = 1, timeout_s: float | None = None
) -> aiohttp.ClientSession:
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
        timeout=TIMEOUT if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s, sock_connect=timeout_s),
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
    with _failures():
        async with http.request(method, url, headers=headers, data=form, allow_redirects=False) as response:
            if response.status != 200:
                missing = 400 <= response.status < 500
                raise FetchFailed(f"the answer is HTTP {response.status}", missing=missing)
            return await _body(response, limit_bytes, unpacks=False)


async def get(url: str, *, origin_host: str, limit_bytes: int) -> bytes:
    """The document at *url*, with a connection of its own: it is asked for rarely. Raises FetchFailed."""
    async with session(url, origin_host=origin_host) as http:
        return await answer(http, "GET", url, limit_bytes=limit_bytes)


async def ask(
    method: str,
    url: str,
    *,
    base: str,
    json: object = None,
    headers: Mapping[str, str] | None = None,
    limit_bytes: int,
    timeout_s: float,
) -> Answer:
    """What the service answers that the operator wrote as *base*, to a request to *url* below it, of any status.

    *headers* may hold a credential: it goes to the origin of *base* and nowhere else, redirects are not followed.
    *json* is sent as such, unless it is None. Raises FetchFailed, and Moved for a redirect.
    """
    if not same_origin(url, base):
        raise FetchFailed("the URL is not below the one of the configuration")
    body = None if json is None else msgspec.json.encode(json)
    sent = {**({} if body is None else {"content-type": "application/json"}), **(headers or {})}
    async with session(url, origin_host=host_of(base), timeout_s=timeout_s) as http:
        with _failures():
            async with http.request(
                method, URL(url, encoded=True), headers=sent, data=body, allow_redirects=False
            ) as response:
                _check_stays(response, url)
                return await _whole(response, url, limit_bytes)


async def fetch(
    url: str,
    *,
    allowed_hosts: Collection[str] = (),
    types: Collection[str] = (),
    redirects: int = 0,
    limit_bytes: int = MAX_BYTES,
    timeout_s: float = 10.0,
) -> Answer:
    """What lies at a *url* that a model or a stranger wrote, if `permitted`, of any status.

    *types*: media types of a good answer, all if empty. Of so many *redirects* each is judged like the first URL.
    *timeout_s* is for all of it, *limit_bytes* for the answer, unpacked. Raises FetchFailed, and Moved for a redirect
    too many.
    """
    with _failures():
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return await _fetched(url, allowed_hosts, types, limit_bytes, timeout_s)
                except Moved as moved:
                    if redirects == 0 or moved.url is None:
                        raise
                    url, redirects = moved.url, redirects - 1


async def _fetched(
    url: str, allowed_hosts: Collection[str], types: Collection[str], limit_bytes: int, timeout_s: float
) -> Answer:
    if (reason := permitted(url, allowed_hosts)) is not None:
        raise FetchFailed(reason)
    accept = {"accept": ", ".join(types) or "*/*", "accept-encoding": "gzip"}
    async with (
        session(url, origin_host=_origin_host(url, allowed_hosts), timeout_s=timeout_s) as http,
        http.request("GET", URL(url, encoded=True), headers=accept, allow_redirects=False) as response,
    ):
        _check_stays(response, url)
        if types and response.status == 200 and _type_of(response.headers.get("content-type", "")) not in types:
            raise FetchFailed("the answer is of a type that is not read here")
        return await _whole(response, url, limit_bytes)


# ---- answers


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever goes wrong on the way, as FetchFailed."""
    try:
        yield
    except TimeoutError as error:
        raise FetchFailed("no answer in time") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreached(f"{type(error).__name__}: {error}") from error


def _type_of(header: str) -> str:
    # Not aiohttp's reading, which takes everything that is no type for plain text.
    return header.partition(";")[0].strip().lower()


def _check_stays(response: aiohttp.ClientResponse, url: str) -> None:
    """Raises Moved for a redirect, with where it leads to."""
    if response.status not in (301, 302, 303, 307, 308):
        return
    said = response.headers.get("location", "")
    to = None
    if len(said) <= MAX_URL_CHARS and _PLAIN.fullmatch(said) and (target := _parsed(said)) is not None:
        to = str(URL(url, encoded=True).join(target))
    raise Moved(f"the answer is HTTP {response.status}, a redirect that is not followed", to)


async def _whole(response: aiohttp.ClientResponse, url: str, limit_bytes: int) -> Answer:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        headers.setdefault(name.lower(), value)
    return Answer(url, response.status, headers, await _body(response, limit_bytes, unpacks=True))


async def _body(response: aiohttp.ClientResponse, limit_bytes: int, *, unpacks: bool) -> bytes:
    """All of the body, unpacked. Raises FetchFailed for one that is too long either way."""
    coding = ", ".join(response.headers.getall("content-encoding", [])).strip().lower()
    if coding not in (("", "identity", "gzip", "x-gzip") if unpacks else ("", "identity")):
        raise FetchFailed("the answer is compressed in a way that was not asked for")
    if (response.content_length or 0) > limit_bytes:
        raise FetchFailed(f"the answer is longer than {limit_bytes} bytes")
    gzip = _Gzip() if coding.endswith("gzip") else None
    body, received = bytearray(), 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        received += len(chunk)
        body += chunk if gzip is None else gzip.unpacked(chunk, limit_bytes + 1 - len(body))
        if len(body) > max(_UNSUSPECTED_BYTES, MAX_RATIO * received):
            raise FetchFailed("the answer is packed so densely that it looks like a trap")
        if len(body) > limit_bytes or received > limit_bytes:
            raise FetchFailed(f"the answer is longer than {limit_bytes} bytes")
    if gzip is not None and received and not gzip.complete:
        raise FetchFailed("the answer ends before what is packed in it does")
    return bytes(body)


class _Gzip:
    """Unpacks one stream, never more of it at once than it is told to."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def complete(self) -> bool:
        return self._stream.eof

    def unpacked(self, chunk: bytes, most_bytes: int) -> bytes:
        """What *chunk* adds, up to *most_bytes*, of which there is at least one. Raises FetchFailed."""
        try:
            found = self._stream.decompress(chunk, most_bytes)
        except zlib.error as error:
            raise FetchFailed("the answer is not packed as it says") from error
        if self._stream.unused_data:
            raise FetchFailed("the answer holds more than one packed stream")
        return found
