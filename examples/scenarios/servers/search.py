"""What is known of other companies: a small knowledge base that is old, and a crawler that is slow."""

import time
from typing import Any

from tiny import Server

server = Server("search")
KNOWN: list[dict[str, Any]] = [{"company": "Alpha Corp", "year": 2023, "text": "Alpha Corp makes two kinds of pumps."}]
NEWS: list[dict[str, Any]] = [
    {"company": "Alpha Corp", "year": 2026, "text": "Alpha Corp showed a third pump last month."}
]


@server.tool
def internal_knowledge_base(query: str, since_year: int) -> dict[str, Any]:
    """Looks into our own notes."""
    return {"found": fitting(KNOWN, query, since_year), "newest_year": max(each["year"] for each in KNOWN)}


@server.tool
def external_web_crawler(query: str, since_year: int) -> dict[str, Any]:
    """Reads news of the last weeks."""
    time.sleep(0.3)
    return {"found": fitting(NEWS, query, since_year)}


def fitting(texts: list[dict[str, Any]], query: str, since_year: int) -> list[dict[str, Any]]:
    return [each for each in texts if each["company"].lower() in query.lower() and each["year"] >= since_year]


server.run()
