"""What can be set of research, and what its process needs of the machine."""

from typing import Annotated, Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options import Bytes, Options
from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions, port_of

MAX_BYTES: Final = 16 * 1024 * 1024
_DNS: Final = 53  # an answer that is too long for UDP comes over TCP

Redirects = Annotated[int, msgspec.Meta(ge=0, le=5)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]


class Fields(Options, frozen=True):
    """Where a service of papers keeps what we tell: dotted paths, `[]` for each member of an array."""

    results: str = "results"
    id: str = "id"
    title: str = "display_name"
    authors: str = "authorships[].author.display_name"
    year: str = "publication_year"
    venue: str = "primary_location.source.display_name"
    url: str = "primary_location.landing_page_url"
    abstract: str = "abstract_inverted_index"  # a text, or words with their positions


class CatalogueOptions(Options, frozen=True):
    """A service of papers that answers in JSON. The defaults fit the API of OpenAlex."""

    url: str  # such as https://api.openalex.org/works
    query: str = "search"  # the parameter with the words
    limit: str = "per-page"  # the parameter with how many
    api_key: str | None = None
    key_header: str = "authorization"
    fields: Fields = Fields()


class ResearchOptions(PackOptions, frozen=True):
    catalogue: CatalogueOptions | None = None  # none: the sample that comes along, of papers that do not exist
    web: bool = True  # whether documents are fetched at all; false: those of the sample only
    allowed_hosts: tuple[str, ...] = ()  # `docs.example.com`, `127.0.0.1:8001`: these alone; none: any public https
    redirects: Redirects = 0  # that are followed, each judged like the first URL
    timeout_s: Seconds = 10.0
    max_bytes: Bytes = 8 * 1024 * 1024  # of a document, unpacked

    def sandbox(self) -> SandboxOptions:
        hosts = self.allowed_hosts if self.web else ()
        ports = {port_of(f"{scheme}://{host}") for host in hosts for scheme in ("https", "http")}
        if self.web and not self.allowed_hosts:
            ports.add(443)
        if self.catalogue is not None:
            ports.add(port_of(self.catalogue.url))
        return SandboxOptions(network=tuple(sorted({_DNS, *ports})) if ports else "none")

    def check(self) -> None:
        from bascule import egress

        for host in self.allowed_hosts:
            if not egress.is_host(host):
                raise ConfigInvalid(
                    f"{host!r} is not a host such as docs.example.com, nor a host with a port",
                    field="settings.allowed_hosts",
                )
        if self.max_bytes > MAX_BYTES:
            raise ConfigInvalid(f"is more than {MAX_BYTES} bytes", field="settings.max_bytes")
        if self.catalogue is not None:
            reason = egress.acceptable(self.catalogue.url, origin_host=egress.host_of(self.catalogue.url))
            if reason is None and "?" in self.catalogue.url:
                reason = "holds a query: say its parameters in `query` and `limit`"
            if reason is not None:
                raise ConfigInvalid(reason, field="settings.catalogue.url")


OPTIONS = ResearchOptions
