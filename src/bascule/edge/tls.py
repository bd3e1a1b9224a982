"""TLS at the edge: certificates that can be renewed while Bascule runs, and who the client says it is.

Knows files and uvicorn's protocol class; whose a subject is, others decide.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from bascule.edge.protocol import Connection
from bascule.errors import ConfigInvalid
from bascule.options_tls import TlsOptions

log = logging.getLogger("bascule.edge")

_VERIFY: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_SUBJECT: Final = "bascule.client_subject"  # in the `state` of an ASGI scope

Stamps: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class Tls:
    """The TLS context of the socket. Raises ConfigInvalid if it cannot be made."""

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._stamps = _stamps(options)
        self._newest = _context(options)
        # What the socket gets is only where every connection begins; each is handed to the newest one.
        self.context = _context(options)
        self.context.sni_callback = self._hand_over

    def adopt(self, options: TlsOptions) -> None:
        """Serve new connections by *options*. Raises ConfigInvalid, and then nothing has changed."""
        stamps = _stamps(options)  # before reading: a file that changes meanwhile is read once more
        self._newest = _context(options)
        self._options, self._stamps = options, stamps
        # These are settled before a connection is handed over.
        self.context.verify_mode = self._newest.verify_mode
        self.context.minimum_version = self._newest.minimum_version

    def _hand_over(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """Called within each handshake, whether or not the client names a host."""
        self._look_again()
        connection.context = self._newest

    def _look_again(self) -> None:
        stamps = _stamps(self._options)
        if stamps == self._stamps:
            return
        try:
            self.adopt(self._options)
        except ConfigInvalid as error:
            # Perhaps one of two files is renewed and the other not yet. The next change is looked at again.
            self._stamps = stamps
            log.error("the renewed TLS files cannot be used, the old ones keep serving: %s", error)
        else:
            log.info("TLS files reloaded: %s", self._options.cert)


class CertifiedProtocol(Connection):
    """HTTP, with the client's certificate read once for each connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its base
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        der = None if connection is None else connection.getpeercert(binary_form=True)
        if der is not None:
            from bascule.edge.auth import certificate  # costs 3 MiB, where anybody has one

            self.app_state = {**self.app_state, _SUBJECT: certificate.subject_of(der)}


def subject_in(scope: Mapping[str, Any]) -> str | None:
    """The subject (RFC 4514) of the certificate that the client of this ASGI *scope* has shown and proven."""
    found: str | None = scope.get("state", {}).get(_SUBJECT)
    return found


def uvicorn_options(tls: Tls | None) -> dict[str, Any]:
    """What `uvicorn.Config` has to be told besides the rest."""
    if tls is None:
        return {"http": Connection}
    return {"http": CertifiedProtocol, "ssl_context_factory": lambda config, default: tls.context}


def _context(options: TlsOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    # A resumed session would bring back a client certificate that has expired, or whose authority has gone. TLS 1.3
    # resumes with tickets alone; the memory that TLS 1.2 has besides, for two hours, Python cannot turn off.
    context.num_tickets = 0
    known = options.client_cert != "none"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if known else ssl.TLSVersion.TLSv1_2
    for field in ("cert", "key", "client_ca"):
        _readable(getattr(options, field), field)
    try:
        # An empty pass phrase, or OpenSSL would ask for one at the terminal.
        context.load_cert_chain(options.cert, options.key, password=lambda: b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigInvalid(_why_no_chain(error, options), field="http.tls.cert") from error
    context.verify_mode = _VERIFY[options.client_cert]
    if options.client_ca is not None:
        try:
            context.load_verify_locations(options.client_ca)
        except (OSError, ValueError) as error:
            raise ConfigInvalid(f"{options.client_ca} holds no certificates in PEM form", field="http.tls.client_ca"
                                ) from error  # fmt: skip
    return context


def _readable(path: str | None, field: str) -> None:
    try:
        if path is not None:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigInvalid(f"{path} cannot be read: {why}", field=f"http.tls.{field}") from error


def _why_no_chain(error: OSError | ValueError, options: TlsOptions) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{options.cert} does not belong to the key in {options.key}"
    return (
        f"{options.cert} and {options.key} are not a certificate and its private key in PEM form;"
        " a key with a pass phrase cannot be used"
    )


def _stamps(options: TlsOptions) -> Stamps:
    """Changes when a file does, also when it is replaced by a rename or a symlink swap."""
    return tuple(_stamp(path) for path in (options.cert, options.key, options.client_ca) if path is not None)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
