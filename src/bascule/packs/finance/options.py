"""What can be set of finance, and what its process needs of the machine."""

import re
from typing import Annotated, Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options import Options
from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions, port_of

_DNS: Final = 53  # an answer that is too long for UDP comes over TCP
_PLACE: Final = re.compile(r"\{(\w*)\}")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ProviderOptions(Options, frozen=True):
    """A service of market data that answers in JSON. What is below *url* are templates, of path and query."""

    url: str  # such as https://api.example.com/v1
    price: str = "stocks/price?ticker={ticker}&date={date}"
    statement: str = "financials/{ticker}?year={year}&type={statement_type}"
    analyst_reports: str = "reports/search?ticker={ticker}&limit={limit}"
    customer_report: str = "customers/{customer_id}/report"
    api_key: str | None = None
    key_header: str = "x-api-key"
    timeout_s: Seconds = 10.0


KNOWN: Final = {
    "price": {"ticker", "date"},
    "statement": {"ticker", "year", "statement_type"},
    "analyst_reports": {"ticker", "limit"},
    "customer_report": {"customer_id"},
}


class FinanceOptions(PackOptions, frozen=True):
    provider: ProviderOptions | None = None  # none: the sample that comes along, with made-up figures
    folder: str | None = None  # where the ledger of payments and orders is; none: neither is made
    max_order_share: Share = 0.5  # of a portfolio, that one order may be worth
    restricted: tuple[str, ...] = ()  # tickers that are not traded

    @property
    def deduplicates(self) -> bool:
        return self.folder is not None

    def sandbox(self) -> SandboxOptions:
        ports: tuple[int, ...] = () if self.provider is None else (_DNS, port_of(self.provider.url))
        return SandboxOptions(write=() if self.folder is None else (self.folder,), network=ports or "none")

    def check(self) -> None:
        if self.provider is None:
            return
        from bascule import egress

        reason = egress.acceptable(self.provider.url, origin_host=egress.host_of(self.provider.url))
        if reason is None and "?" in self.provider.url:
            reason = "holds a query: say it in the templates"
        if reason is not None:
            raise ConfigInvalid(reason, field="settings.provider.url")
        for name, known in KNOWN.items():
            template = getattr(self.provider, name)
            if unknown := set(_PLACE.findall(template)) - known:
                raise ConfigInvalid(
                    f"there is no {{{min(unknown)}}}; there are {', '.join(sorted(known))}",
                    field=f"settings.provider.{name}",
                )
            if "#" in template or any(part in ("", ".", "..") for part in template.partition("?")[0].split("/")):
                raise ConfigInvalid("is not a path below the url", field=f"settings.provider.{name}")


OPTIONS = FinanceOptions
