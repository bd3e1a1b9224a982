"""Where recommendations about shares are published: lines of $WORK/published.txt."""

import os
from pathlib import Path
from typing import Any

from tiny import Server

server = Server("desk")
PUBLISHED = Path(os.environ["WORK"]) / "published.txt"


@server.tool
def publish_recommendation(ticker: str, rating: str, upside_percent: float, confidence: float) -> dict[str, Any]:
    """Publishes what to do with a share. SIDE EFFECT."""
    with PUBLISHED.open("a", encoding="utf-8") as lines:
        print(ticker, rating, confidence, file=lines)
    return {"recommendation_id": f"R-{len(PUBLISHED.read_text(encoding='utf-8').splitlines()):04}"}


server.run()
