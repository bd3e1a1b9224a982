"""The office as a pack."""

from pathlib import Path
from typing import Final

import msgspec

from bascule.packs.office.options import OfficeOptions
from bascule.packs.pack import Asked, Pack

CONTRACTS: Final = Path(__file__).parent / "contracts"


class SummarizeText(msgspec.Struct, frozen=True):
    text: str
    max_points: int = 3


async def summarize_text(wanted: SummarizeText, asked: Asked) -> dict[str, list[str]]:
    del asked
    return {"summary_points": [each.strip() for each in wanted.text.split(".")][: wanted.max_points]}


def build(options: OfficeOptions) -> Pack:
    del options
    pack = Pack(
        "office",
        title="Office",
        version="1.0.0",
        instructions="Documents, tables, mail, calendar, reports.",
        contracts=CONTRACTS,
    )
    pack.tool("document/summarize_text", summarize_text)
    return pack
