"""Certificates and their keys: whether they are there, for how long, for which name, and for whose eyes."""

import ipaddress
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from bascule.admin.doctor.finding import Finding, Repair, finding, plural
from bascule.admin.doctor.setup import Setup

SOON: Final = timedelta(days=30)
_FOR_ALL: Final = 0o007
_IS_POSIX: Final = os.name == "posix"


def findings(setup: Setup) -> Iterator[Finding]:
    tls = setup.config.http.tls
    if tls is None:
        return
    for field, path in (("cert", tls.cert), ("client_ca", tls.client_ca)):
        if path is not None:
            yield from _certificate(setup, f"http.tls.{field}", Path(path), names=field == "cert")
    yield from _private_key(setup, Path(tls.key))


def expiry(path: Path) -> datetime:
    """When the first certificate in *path* ends. Raises OSError, and ValueError for what is no certificate."""
    return x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc


def _certificate(setup: Setup, field: str, path: Path, *, names: bool) -> Iterator[Finding]:
    look = f"openssl x509 -in {path} -noout -enddate -ext subjectAltName"
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "there is no certificate in it"
        fix = f"{field}: cert.pem   # where it is, as PEM"
        yield finding("tls-file-missing", setup.at(field), f"{field}: {path}: {why}", fix)
        return
    now = datetime.fromtimestamp(setup.now_s, UTC)
    for each in certificates:
        left, subject = each.not_valid_after_utc - now, each.subject.rfc4514_string() or "without a subject"
        if left <= timedelta():
            what = f"{field}: {subject} ended on {each.not_valid_after_utc:%Y-%m-%d}: no client connects any more"
            yield finding("tls-expired", setup.at(field), what, f"{look}   # put a new one there; no restart is needed")
        elif left < SOON:
            what = f"{field}: {subject} ends in {plural(left.days, 'day')}, on {each.not_valid_after_utc:%Y-%m-%d}"
            yield finding("tls-expires", setup.at(field), what, f"{look}   # renew it; no restart is needed")
    host = urlsplit(setup.config.http.public_url or "").hostname
    if names and host and not _is_for(certificates[0], host):
        what = f"{field}: it is not for {host}, which http.public_url tells clients to call"
        yield finding("tls-name", setup.at(field), what, look)


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a client that calls *host* accepts it (RFC 9525: alternative names only, `*` for one label)."""
    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in said.get_values_for_type(x509.IPAddress)
    except ValueError:
        wild = "*." + host.partition(".")[2]
        return any(name.lower() in (host, wild) for name in said.get_values_for_type(x509.DNSName))


def _private_key(setup: Setup, path: Path) -> Iterator[Finding]:
    field = "http.tls.key"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        what = f"{field}: {path}: {error.strerror}"
        yield finding("tls-file-missing", setup.at(field), what, f"{field}: key.pem   # where it is, as PEM")
        return
    if _IS_POSIX and mode & _FOR_ALL:
        # What the group may do is the operator's choice: certificates often belong to one.
        better = mode & ~_FOR_ALL
        what = f"{field}: every user of this machine can read {path}"
        repair = Repair("chmod", str(path), better)
        yield finding("tls-key-readable", setup.at(field), what, f"chmod {better:o} {path}", repair=repair)
