"""TLS with real certificates on real sockets: who is believed, and how certificates are renewed."""

import asyncio
import datetime
import logging
import secrets
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest
import uvicorn
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from gateway import gateway

from bascule.edge.protocol import Connection
from bascule.edge.tls import Tls, subject_in, uvicorn_options
from bascule.errors import ConfigInvalid
from bascule.options_tls import TlsOptions

WITHIN_S: Final = 10
AGENT: Final = "CN=agent,O=Example"
PEM: Final = serialization.Encoding.PEM


class Authority:
    """A certificate authority, and the files of whatever it certifies."""

    def __init__(self, folder: Path, name: str = "Example CA") -> None:
        self.folder = folder / name.replace(" ", "-")
        self.folder.mkdir()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(self.name, self.key).add_extension(constraints, critical=True)
        self.file = str(self._write("ca.pem", certificate.sign(self.key, hashes.SHA256()).public_bytes(PEM)))

    def certify(self, name: str, subject: str, *, days: int = 1, server: bool = False) -> tuple[str, str]:
        """(certificate, key) as files; of the past with *days* below zero."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name.from_rfc4514_string(subject), key, days)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return (
            str(self._write(f"{name}.pem", builder.sign(self.key, hashes.SHA256()).public_bytes(PEM))),
            str(self._write(f"{name}.key", key.private_bytes(PEM, *form))),
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1) -> x509.CertificateBuilder:
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        begins = min(ends, datetime.datetime.now(datetime.UTC)) - datetime.timedelta(days=1)
        serial = x509.random_serial_number()
        return x509.CertificateBuilder(self.name, subject, key.public_key(), serial, begins, ends)

    def _write(self, name: str, content: bytes) -> Path:
        """Replaced as a whole, as those who renew certificates do."""
        path, fresh = self.folder / name, self.folder / f"{name}.new"
        fresh.write_bytes(content)
        return fresh.replace(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def options(authority: Authority, **more: Any) -> TlsOptions:
    cert, key = authority.certify("server", "CN=localhost", server=True)
    return TlsOptions(cert=cert, key=key, **more)


def asking(authority: Authority, client_cert: str = "required") -> TlsOptions:
    return options(authority, client_ca=authority.file, client_cert=client_cert)


async def say_who(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """An application that answers with whom it sees."""
    body = str(subject_in(scope)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(tls: Tls) -> AsyncIterator[int]:
    """The port of an edge with *tls*."""
    config = uvicorn.Config(
        say_who, host="127.0.0.1", port=0, lifespan="off", ws="none", log_config=None, **uvicorn_options(tls)
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        async with asyncio.timeout(WITHIN_S):
            await server.shutdown()


def trusting(authority: Authority, *shown: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client's side that trusts *authority* and shows the certificate in these files."""
    context = ssl.create_default_context(cafile=authority.file)
    context.maximum_version = newest
    if shown:
        context.load_cert_chain(*shown)
    return context


async def seen(port: int, context: ssl.SSLContext) -> str:
    """Whom the edge sees, of a client that connects anew. Raises ClientError or OSError when it is turned away."""
    timeout = aiohttp.ClientTimeout(total=WITHIN_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.get(f"https://localhost:{port}/", ssl=context) as response,
    ):
        return await response.text()


async def turned_away(port: int, context: ssl.SSLContext) -> bool:
    try:
        await seen(port, context)
    except (aiohttp.ClientConnectionError, OSError):
        return True
    return False


# ---- who is believed


async def test_the_subject_of_a_certificate_reaches_the_application(authority: Authority) -> None:
    async with served(Tls(asking(authority))) as port:
        assert await seen(port, trusting(authority, *authority.certify("a", AGENT))) == AGENT
        other = authority.certify("b", "CN=other,O=Example")
        assert await seen(port, trusting(authority, *other)) == "CN=other,O=Example"


def test_it_is_so_on_the_loop_that_bascule_runs_on(authority: Authority) -> None:
    async def main() -> None:
        async with served(Tls(asking(authority))) as port:
            assert await seen(port, trusting(authority, *authority.certify("a", AGENT))) == AGENT
            assert await turned_away(port, trusting(authority))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_every_request_of_a_connection_is_the_same_clients(authority: Authority) -> None:
    context = trusting(authority, *authority.certify("a", AGENT))
    async with served(Tls(asking(authority))) as port, aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.get(f"https://localhost:{port}/", ssl=context) as response:
                assert await response.text() == AGENT


async def test_connections_at_the_same_time_are_not_mixed_up(authority: Authority) -> None:
    names = [f"CN=agent {number}" for number in range(20)]
    contexts = [trusting(authority, *authority.certify(f"a{n}", name)) for n, name in enumerate(names)]
    async with served(Tls(asking(authority))) as port:
        assert await asyncio.gather(*(seen(port, context) for context in contexts)) == names


@pytest.mark.parametrize("client_cert", ["optional", "required"])
async def test_a_certificate_that_cannot_be_believed_is_turned_away_even_where_none_is_needed(
    authority: Authority, tmp_path: Path, client_cert: str
) -> None:
    stranger = Authority(tmp_path, "Another CA")
    twin = Authority(tmp_path / "Another-CA", "Example CA")  # of the same name, with another key
    cases = {
        "another authority": stranger.certify("a", AGENT),
        "an authority of the same name": twin.certify("a", AGENT),
        "expired": authority.certify("a", AGENT, days=-1),
        "a server's": authority.certify("b", AGENT, server=True),
    }
    async with served(Tls(asking(authority, client_cert))) as port:
        for case, shown in cases.items():
            assert await turned_away(port, trusting(authority, *shown)), case


async def test_who_shows_no_certificate_comes_in_as_nobody_where_it_is_optional(authority: Authority) -> None:
    async with served(Tls(asking(authority, "optional"))) as port:
        assert await seen(port, trusting(authority)) == "None"
        assert await seen(port, trusting(authority, *authority.certify("a", AGENT))) == AGENT


async def test_who_shows_no_certificate_is_turned_away_where_it_is_required(authority: Authority) -> None:
    async with served(Tls(asking(authority))) as port:
        assert await turned_away(port, trusting(authority))


async def test_nobody_is_asked_for_a_certificate_by_default(authority: Authority) -> None:
    async with served(Tls(options(authority))) as port:
        assert await seen(port, trusting(authority, *authority.certify("a", AGENT))) == "None"


async def test_what_is_older_than_tls_1_2_is_not_spoken(authority: Authority) -> None:
    context = trusting(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with served(Tls(options(authority))) as port:
        assert await turned_away(port, context)


def visit(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[bool, Any]:
    """(whether *session* was resumed, the session to resume next time), after a whole exchange."""
    with (
        socket.create_connection(("127.0.0.1", port), WITHIN_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while connection.recv(4096):
            pass
        return bool(connection.session_reused), connection.session


async def test_no_session_is_resumed_after_its_certificate(authority: Authority) -> None:
    """What one handshake has decided about a certificate would hold for later ones."""
    context = trusting(authority, *authority.certify("a", AGENT))
    async with served(Tls(asking(authority))) as port:
        _, session = await asyncio.to_thread(visit, port, context)
        resumed, _ = await asyncio.to_thread(visit, port, context, session)
        assert not resumed
        # TLS 1.2 would resume even so, and is not spoken with those who show certificates.
        older = trusting(authority, *authority.certify("b", AGENT), newest=ssl.TLSVersion.TLSv1_2)
        assert await turned_away(port, older)


async def test_tls_1_2_is_spoken_where_nobody_is_asked_for_a_certificate(authority: Authority) -> None:
    older = trusting(authority, newest=ssl.TLSVersion.TLSv1_2)
    tls = Tls(options(authority))
    async with served(tls) as port:
        assert await seen(port, older) == "None"
        tls.adopt(asking(authority, "optional"))
        assert await turned_away(port, older)


def test_without_tls_there_is_no_subject() -> None:
    assert subject_in({"type": "http"}) is None
    assert subject_in({"type": "http", "state": {}, "headers": [(b"bascule.client_subject", b"CN=x")]}) is None
    assert uvicorn_options(None) == {"http": Connection}


async def test_a_certificate_is_a_credential_of_the_caller_that_has_its_subject(authority: Authority) -> None:
    whole = asking(authority, "optional")
    http = {"tls": {"cert": whole.cert, "key": whole.key, "client_ca": whole.client_ca, "client_cert": "optional"}}
    callers = {"agent": {"certificate": AGENT, "scopes": ["*"]}, "other": {"keys": ["${env:KEY}"], "scopes": ["*"]}}
    key = secrets.token_urlsafe(32)
    async with gateway({}, http=http, callers=callers, environ={"KEY": key}) as bascule:
        url = f"https://localhost:{bascule.url.rpartition(':')[2]}/status"

        async def status(*shown: str, **headers: str) -> int:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client,
                client.get(url, ssl=trusting(authority, *shown), headers=headers) as response,
            ):
                return response.status

        assert await status(*authority.certify("a", AGENT)) == 200
        assert await status(*authority.certify("b", "CN=agent,O=Elsewhere")) == 401
        assert await status(*authority.certify("c", "CN=agent,O=Example,OU=x")) == 401
        assert await status() == 401
        assert await status(authorization=f"Bearer {key}") == 200
        forged = {"x-client-cert": AGENT, "x-forwarded-client-cert": f"Subject={AGENT}", "x-ssl-client-s-dn": AGENT}
        assert await status(**forged) == 401


# ---- renewal


def put(source: str, target: Path) -> None:
    shutil.copyfile(source, target)


async def served_serial(port: int, authority: Authority) -> str:
    """Which certificate the edge shows to a client that connects anew."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=trusting(authority))
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return serial


async def test_a_renewed_certificate_is_served_from_the_next_connection_on(authority: Authority) -> None:
    async with served(Tls(options(authority))) as port:
        before = await served_serial(port, authority)
        assert await served_serial(port, authority) == before
        authority.certify("server", "CN=localhost", server=True)
        assert await served_serial(port, authority) != before


async def test_while_only_one_of_two_files_is_renewed_the_old_ones_serve(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls = Tls(options(authority))
    server = authority.folder / "server.pem"
    async with served(tls) as port:
        before = await served_serial(port, authority)
        fresh, key = authority.certify("fresh", "CN=localhost", server=True)
        put(fresh, server)
        with caplog.at_level(logging.ERROR, "bascule.edge"):
            assert await served_serial(port, authority) == before
            assert await served_serial(port, authority) == before
        assert [record.getMessage() for record in caplog.records] == [
            "the renewed TLS files cannot be used, the old ones keep serving: http.tls.cert:"
            f" {server} does not belong to the key in {authority.folder / 'server.key'}"
        ], "it is said once for each change"
        put(key, authority.folder / "server.key")
        assert await served_serial(port, authority) != before


async def test_clients_of_an_authority_that_has_been_replaced_are_turned_away(
    authority: Authority, tmp_path: Path
) -> None:
    after = Authority(tmp_path, "New CA")
    old = trusting(authority, *authority.certify("a", AGENT))
    new = trusting(authority, *after.certify("a", AGENT))
    trusted = tmp_path / "clients.pem"
    put(authority.file, trusted)
    async with served(Tls(options(authority, client_ca=str(trusted), client_cert="required"))) as port:
        assert await seen(port, old) == AGENT
        assert await turned_away(port, new)
        put(after.file, trusted)
        assert await turned_away(port, old)
        assert await seen(port, new) == AGENT


async def test_options_can_be_adopted_without_a_restart(authority: Authority) -> None:
    plain, strict = options(authority), asking(authority)
    tls = Tls(plain)
    async with served(tls) as port:
        assert await seen(port, trusting(authority)) == "None"
        tls.adopt(strict)
        assert await turned_away(port, trusting(authority))
        tls.adopt(msgspec.structs.replace(strict, client_cert="optional"))
        assert await seen(port, trusting(authority)) == "None"
        with pytest.raises(ConfigInvalid):
            tls.adopt(msgspec.structs.replace(plain, cert="/nowhere.pem"))
        assert await seen(port, trusting(authority)) == "None"


# ---- files


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _spoilt(field: str, spoil: Callable[[Path], Any]) -> Callable[[TlsOptions], TlsOptions]:
    def change(whole: TlsOptions) -> TlsOptions:
        path = Path(getattr(whole, field))
        spoil(path)
        return whole

    return change


@pytest.mark.parametrize(
    ("spoil", "field", "words"),
    [
        (_spoilt("cert", Path.unlink), "http.tls.cert", "No such file"),
        (_spoilt("key", Path.unlink), "http.tls.key", "No such file"),
        (_spoilt("client_ca", Path.unlink), "http.tls.client_ca", "No such file"),
        (_spoilt("cert", lambda path: path.write_text("x")), "http.tls.cert", "PEM"),
        (_spoilt("key", lambda path: path.write_text("")), "http.tls.cert", "PEM"),
        (_spoilt("client_ca", lambda path: path.write_text("x")), "http.tls.client_ca", "PEM"),
        (_spoilt("cert", become_a_folder), "http.tls.cert", "directory"),
        (lambda whole: msgspec.structs.replace(whole, cert="a\0b"), "http.tls.cert", "null"),
        (lambda whole: msgspec.structs.replace(whole, cert=whole.client_ca), "http.tls.cert", "does not belong"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    authority: Authority, spoil: Callable[[TlsOptions], TlsOptions], field: str, words: str
) -> None:
    spoilt = spoil(asking(authority))
    with pytest.raises(ConfigInvalid, match=words) as refused:
        Tls(spoilt)
    assert refused.value.field == field


def test_a_key_with_a_pass_phrase_is_refused_and_nobody_is_asked_for_it(authority: Authority) -> None:
    whole = options(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(b"secret")
    Path(whole.key).write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, sealed))
    with pytest.raises(ConfigInvalid, match="pass phrase"):
        Tls(whole)


@pytest.mark.parametrize(
    "told",
    [
        {"client_cert": "required"},
        {"client_cert": "optional"},
        {"client_ca": "ca.pem"},
        {"client_cert": "maybe"},
        {"ca": "ca.pem"},
    ],
)
def test_options_that_do_not_fit_together_are_refused(told: Mapping[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"cert": "a.pem", "key": "a.key", **told}, TlsOptions)
