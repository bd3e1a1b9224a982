"""The office: documents, tables, mail, calendar, reports."""
