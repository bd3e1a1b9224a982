"""Reports of customers, and the score that is made of one. The score is credit.py's."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bascule.packs.finance import credit
from bascule.packs.finance.credit import Report
from bascule.packs.finance.market import Provider, sample
from bascule.packs.finance.numbers import number
from bascule.packs.pack import Asked, ToolFailed

PREFIX: Final = "finance://reports/"
_FIGURES: Final = (
    *("current_assets", "current_liabilities", "total_debt", "equity", "revenue", "operating_income"),
    *("interest_expense", "net_income"),
)


class GetReport(msgspec.Struct, frozen=True):
    customer_id: str


class AnalyzeReport(msgspec.Struct, frozen=True):
    report_path: str


class Reports:
    """The two tools of reports, and the reports as resources."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def get_report(self, wanted: GetReport, asked: Asked) -> dict[str, Any]:
        del asked
        report = await self._provider.customer_report(wanted.customer_id)
        text = written(report, self._provider.source)
        return {
            "customer_id": wanted.customer_id,
            "name": report.name,
            "report_path": f"{PREFIX}{wanted.customer_id}",
            "fiscal_year": report.fiscal_year,
            "currency": report.currency,
            "published": report.published,
            "mime_type": "text/markdown",
            "size_bytes": len(text.encode()),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "source": self._provider.source,
            "sample": self._provider.sample,
        }

    async def analyze_report(self, wanted: AnalyzeReport, asked: Asked) -> dict[str, Any]:
        del asked
        report = await self._provider.customer_report(wanted.report_path.removeprefix(PREFIX))
        risk, parts = credit.score(report)
        liquidity = parts["liquidity_ratio"].ratio
        return {
            "report_path": wanted.report_path,
            "customer_id": report.customer_id,
            "risk_score": risk,
            "liquidity_ratio": None if liquidity is None else number(liquidity, 4),
            "components": {
                name: {
                    "ratio": None if part.ratio is None else number(part.ratio, 4),
                    "risk": number(part.risk, 2),
                    "weight": number(part.weight, 2),
                }
                for name, part in parts.items()
            },
            "formula": credit.FORMULA,
            "fiscal_year": report.fiscal_year,
            "source": self._provider.source,
            "sample": self._provider.sample,
        }

    async def read(self, values: Mapping[str, str]) -> str:
        """A report as a resource."""
        if not is_customer(values["customer_id"]):
            raise ToolFailed("That is no id of a customer.", "An id is such as CUST-456.")
        return written(await self._provider.customer_report(values["customer_id"]), self._provider.source)

    async def listed(self, values: Mapping[str, str]) -> str:
        """Which reports there are, as a resource."""
        del values
        if not self._provider.sample:
            return f"Reports are those of {self._provider.source}: read {PREFIX} with the id of a customer behind it.\n"
        lines = [f"- {PREFIX}{id}: {report.name}, {report.fiscal_year}" for id, report in _of_sample()]
        return "\n".join([f"Reports ({self._provider.source}):", "", *lines, ""])


def is_customer(text: str) -> bool:
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum() and len(text) <= 40


def written(report: Report, source: str) -> str:
    """A report as Markdown."""
    rows = [f"| {name.replace('_', ' ')} | {getattr(report, name):,} |" for name in _FIGURES]
    about = f"Customer {report.customer_id}, published {report.published}. Source: {source}."
    return "\n".join(
        [
            f"# {report.name}, {report.fiscal_year}",
            "",
            about,
            "",
            f"| figure | {report.currency} |",
            "| --- | ---: |",
            *rows,
            "",
        ]
    )


def _of_sample() -> list[tuple[str, Report]]:
    return sorted(sample().customer_reports.items())
