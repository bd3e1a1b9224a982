"""What an operator says of TLS at the edge: files, and whether clients show certificates."""

from typing import Literal, TypeAlias

from bascule.options import Options

ClientCert: TypeAlias = Literal["none", "optional", "required"]


class TlsOptions(Options, frozen=True):
    """Files in PEM form. They are read again when they change, so that a renewed certificate needs no restart."""

    cert: str  # the server's certificate, followed by the intermediate ones
    key: str  # its private key, without a pass phrase
    client_ca: str | None = None  # the authorities whose client certificates are believed
    client_cert: ClientCert = "none"  # `optional`: who shows none may come in by other means

    def __post_init__(self) -> None:
        if self.client_cert != "none" and self.client_ca is None:
            raise ValueError(f"client_cert: {self.client_cert} needs client_ca, or nobody's certificate is believed")
        if self.client_cert == "none" and self.client_ca is not None:
            raise ValueError("client_ca is there, but nobody is asked for a certificate: set client_cert")
