"""Summaries, made fast or well, in two versions: `documents.py costs|1|2`. It picks sentences and makes none up."""

import re
import sys
from typing import Any

from tiny import Server

server = Server("document")


def summarize_fast(text: str) -> dict[str, Any]:
    """Gives the first sentence."""
    return {"summary": sentences(text)[0]}


def summarize_deep(text: str) -> dict[str, Any]:
    """Gives the sentences with the most facts, in their order."""
    ranked = sorted(sentences(text), key=lambda each: -len(re.findall(r"\d", each)))[:3]
    return {"summary": " ".join(each for each in sentences(text) if each in ranked)}


def summarize_text_1(text: str) -> dict[str, Any]:
    """Gives a summary as one text."""
    return summarize_deep(text)


def summarize_text_2(text: str) -> dict[str, Any]:
    """Gives a summary as points."""
    return {"points": sentences(text)[:3]}


def sentences(text: str) -> list[str]:
    return [each.strip() for each in re.split(r"(?<=[.!?])\s+", text) if each.strip()]


if sys.argv[1] == "costs":
    server.tool(summarize_fast)
    server.tool(summarize_deep)
else:
    server.tools["summarize_text"] = summarize_text_1 if sys.argv[1] == "1" else summarize_text_2
server.run()
