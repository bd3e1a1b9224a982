"""A mail server on loopback that really speaks SMTP, with STARTTLS and AUTH, and breaks off where it is told to.

Source: RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH PLAIN). The certificate is of an authority of its own, `ca_file`.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Taken:
    """A mail that the server said 250 to, or would have."""

    sender: str
    recipients: list[str]
    content: bytes
    secure: bool
    user: str

    @property
    def message(self) -> EmailMessage:
        found = BytesParser(policy=policy.default).parsebytes(self.content)
        assert isinstance(found, EmailMessage)
        return found


@dataclass
class MailServer:
    """What a server offers, how it behaves, and what it took. Change what it does while it runs."""

    port: int = 0
    ca_file: str = ""
    starttls: bool = True
    users: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)  # recipients it takes no mail for
    break_at: str = ""  # `greeting`, `mail`, `data`, `content`, or `end`: after all of the mail, before the answer
    breaks: int = 1  # how often
    refuse_content: str = ""  # what it answers instead of 250
    refuse_data: str = ""  # what it answers instead of 354
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0

    def settings(self, **more: Any) -> dict[str, Any]:
        """The setting `smtp` of the office pack for it."""
        own = {"host": "127.0.0.1", "port": self.port, "sender": "The Office <office@company.test>"}
        return {**own, "ca_file": self.ca_file, "timeout_s": 15.0, **more}


class _Broken(Exception):
    """The server goes away."""


class _Dialogue:
    def __init__(self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.secure = writer.get_extra_info("ssl_object") is not None
        self.user = self.sender = ""
        self.recipients: list[str] = []

    async def run(self, context: ssl.SSLContext) -> None:
        self.pass_by("greeting")
        await self.say("220 mail.company.test ESMTP")
        while line := await self.reader.readline():
            said = line.decode("latin-1").rstrip("\r\n")
            verb, _, rest = said.partition(" ")
            self.server.commands.append(said if verb.upper() != "AUTH" else "AUTH")
            match verb.upper():
                case "EHLO" | "HELO":
                    await self.say(*self.offers())
                case "STARTTLS" if self.server.starttls:
                    await self.say("220 go ahead")
                    await self.writer.start_tls(context)
                    self.secure = True
                case "AUTH":
                    await self.authenticate(rest)
                case "MAIL":
                    self.pass_by("mail")
                    self.sender, self.recipients = _address(rest), []
                    await self.say("250 ok")
                case "RCPT" if _address(rest) in self.server.refused:
                    await self.say("550 5.1.1 no such person")
                case "RCPT":
                    self.recipients.append(_address(rest))
                    await self.say("250 ok")
                case "DATA":
                    self.pass_by("data")
                    await self.data()
                case "QUIT":
                    await self.say("221 bye")
                    return
                case "RSET":
                    await self.say("250 ok")
                case _:
                    await self.say("502 what?")

    def offers(self) -> list[str]:
        found = ["250-mail.company.test", "250-SIZE 20000000"]
        if self.server.starttls and not self.secure:
            found.append("250-STARTTLS")
        if self.server.users:
            found.append("250-AUTH PLAIN")
        return [*found, "250 HELP"]

    async def authenticate(self, rest: str) -> None:
        _, _, initial = rest.partition(" ")
        _, user, password = base64.b64decode(initial).decode().split("\0")
        if self.server.users.get(user) != password:
            await self.say("535 5.7.8 no")
            return
        self.user = user
        await self.say("235 welcome")

    async def data(self) -> None:
        if self.server.refuse_data:
            await self.say(self.server.refuse_data)
            return
        await self.say("354 go on")
        lines: list[bytes] = []
        while (line := await self.reader.readline()) != b".\r\n":
            self.pass_by("content")
            if not line:
                return
            assert line.endswith(b"\r\n"), line
            lines.append(line[1:] if line.startswith(b"..") else line)
        taken = Taken(self.sender, self.recipients, b"".join(lines), self.secure, self.user)
        if self.server.refuse_content:
            await self.say(self.server.refuse_content)
            return
        self.server.taken.append(taken)
        self.pass_by("end")
        await self.say("250 queued")

    def pass_by(self, place: str) -> None:
        if self.server.break_at == place and self.server.breaks > 0:
            self.server.breaks -= 1
            raise _Broken

    async def say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self.writer.drain()


@asynccontextmanager
async def mail_server(folder: Path, *, implicit: bool = False, **more: Any) -> AsyncIterator[MailServer]:
    """A server on a free port; its certificate and key are written to *folder*."""
    ca_file, own = _certificates(folder)
    server = MailServer(ca_file=str(ca_file), **more)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        with suppress(_Broken, ConnectionError, ssl.SSLError):
            await _Dialogue(server, reader, writer).run(context)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    listening = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context if implicit else None)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


def _certificates(folder: Path) -> tuple[Path, Path]:
    """(certificate of the authority, certificate and key of the server), for 127.0.0.1 and an hour."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority of a test", authority_key, "authority of a test", authority_key, is_ca=True)
    own = _certificate("mail server of a test", key, "authority of a test", authority_key, is_ca=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    (folder / "own.pem").write_bytes(own.public_bytes(pem) + private)
    return folder / "ca.pem", folder / "own.pem"


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, *, is_ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(by, hashes.SHA256())
