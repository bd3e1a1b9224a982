"""What an operator says of metrics, traces and logs. PURE."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from bascule.options import Options

TRACES_PATH: Final = "/v1/traces"  # of a collector whose address is said without a path (OTLP/HTTP)


class MetricsOptions(Options, frozen=True):
    """What Prometheus can read."""

    enabled: bool = True
    # An address for /metrics alone, such as 127.0.0.1:9464, where nobody is asked who they are.
    # Default: /metrics stands beside /status, for who may read that.
    listen: str | None = None

    def __post_init__(self) -> None:
        if self.listen is not None:
            address_of(self.listen)

    @property
    def address(self) -> tuple[str, int] | None:
        return address_of(self.listen) if self.enabled and self.listen is not None else None


class TracingOptions(Options, frozen=True):
    """Where spans go. Without an endpoint no call has any, and none pays for them."""

    endpoint: str | None = None  # of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)  # for the collector; references such as ${env:KEY}
    # Which part of the calls; one that comes with a trace goes by what its client has decided.
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    service_name: str = "bascule"

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            _split(self.endpoint)

    @property
    def url(self) -> str:
        """The whole URL that spans are sent to."""
        parts = _split(self.endpoint or "")
        return parts._replace(path=TRACES_PATH).geturl() if parts.path in ("", "/") else parts.geturl()


class LogsOptions(Options, frozen=True):
    """What is written to standard error, one line for each event."""

    format: Literal["text", "json"] = "text"
    calls: Literal["off", "errors", "all"] = "off"  # a line for each call: none, those that did not go well, all


def address_of(said: str) -> tuple[str, int]:
    """The host and port of `127.0.0.1:9464` or `[::1]:9464`. Raises ValueError."""
    host, _, port = said.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{said!r} is not an address such as 127.0.0.1:9464")
    return host, int(port)


def _split(endpoint: str) -> SplitResult:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{endpoint!r} is not a URL such as http://127.0.0.1:4318")
    if parts.username is not None:
        raise ValueError("a password in a URL ends up in logs: put it into tracing.headers")
    return parts
