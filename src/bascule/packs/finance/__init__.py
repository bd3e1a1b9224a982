"""Finance: prices, statements, valuation, reports, payments of invoices, paper trading."""
