"""Finance as a pack."""

from pathlib import Path
from typing import Final

from bascule.packs.finance.analysis import Analysis
from bascule.packs.finance.ledger import Ledger
from bascule.packs.finance.market import Provider, SampleProvider, ServiceProvider
from bascule.packs.finance.options import FinanceOptions
from bascule.packs.finance.orders import Orders
from bascule.packs.finance.payments import Payments
from bascule.packs.finance.reports import PREFIX, Reports
from bascule.packs.pack import Pack, Resource

CONTRACTS: Final = Path(__file__).parent / "contracts"


def build(options: FinanceOptions) -> Pack:
    """Raises ConfigInvalid if the ledger cannot be kept."""
    provider: Provider = SampleProvider() if options.provider is None else ServiceProvider(options.provider)
    ledger = None if options.folder is None else Ledger(options.folder)
    pack = Pack(
        "finance",
        title="Finance",
        version="1.0.0",
        instructions="Figures with `sample: true` are made up. Tell the assumptions of a valuation along with it.",
        contracts=CONTRACTS,
    )
    analysis, reports = Analysis(provider), Reports(provider)
    payments, orders = Payments(ledger), Orders(provider, ledger, options)
    pack.tool("finance/get_stock_price", analysis.get_stock_price)
    pack.tool("finance/get_financial_statements", analysis.get_financial_statements)
    pack.tool("finance/calculate_valuation", analysis.calculate_valuation)
    pack.tool("finance/get_analyst_reports", analysis.get_analyst_reports)
    pack.tool("finance/get_report", reports.get_report)
    pack.tool("risk/analyze_report", reports.analyze_report)
    pack.tool("invoice/list_invoices", payments.list_invoices)
    pack.tool("invoice/process_payment", payments.process_payment)
    pack.tool("trading/check_risk", orders.check_risk)
    pack.tool("trading/place_order", orders.place_order)
    about = "A customer's report as Markdown."
    pack.resource(Resource(f"{PREFIX}{{customer_id}}", "report", about, "text/markdown", reports.read))
    pack.resource(Resource("finance://reports", "reports", "Which reports there are.", "text/markdown", reports.listed))
    if ledger is not None:
        pack.closing(ledger.close)
    return pack
