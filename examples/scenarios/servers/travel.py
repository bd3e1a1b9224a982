"""Flights, hotels and their booking: `travel.py flight|hotel|booking`. Bookings are lines of $WORK/bookings.txt."""

import os
import sys
from pathlib import Path
from typing import Any

from tiny import Failed, Server

FLIGHTS = [
    {"flight": "HN-201", "date": "2026-12-25", "departs": "06:10", "price_usd": 62.0},
    {"flight": "HN-355", "date": "2026-12-25", "departs": "11:40", "price_usd": 88.5},
]
HOTELS = [
    {"hotel": "Riverside Palace", "stars": 4, "km_to_centre": 0.4, "price_usd": 310.0},
    {"hotel": "Ben Thanh Garden", "stars": 4, "km_to_centre": 0.9, "price_usd": 74.0},
    {"hotel": "Old Quarter Inn", "stars": 3, "km_to_centre": 0.6, "price_usd": 41.0},
]
BOOKINGS = Path(os.environ["WORK"]) / "bookings.txt"

server = Server(sys.argv[1])


def search_cheapest(origin: str, destination: str, date: str) -> dict[str, Any]:
    """Finds the cheapest flight of a day."""
    found = [each for each in FLIGHTS if each["date"] == date]
    if not found:
        raise Failed(f"No flight from {origin} to {destination} on {date}. Ask for another day.")
    return min(found, key=lambda each: float(str(each["price_usd"])))


def search_by_rating(city: str, stars: int) -> dict[str, Any]:
    """Lists hotels with so many stars, the nearest to the centre first."""
    return {"city": city, "hotels": [each for each in HOTELS if each["stars"] == stars]}


def reserve_flight(flight: str, price_usd: float, trip_total_usd: float) -> dict[str, Any]:
    """Books a seat. SIDE EFFECT."""
    return booked("flight", flight, price_usd)


def reserve_hotel(hotel: str, price_usd: float, trip_total_usd: float) -> dict[str, Any]:
    """Books a room. SIDE EFFECT."""
    return booked("hotel", hotel, price_usd)


def booked(what: str, name: str, price_usd: float) -> dict[str, Any]:
    with BOOKINGS.open("a", encoding="utf-8") as lines:
        print(what, name, price_usd, file=lines)
    return {"booking_id": f"{what[0].upper()}-{len(BOOKINGS.read_text(encoding='utf-8').splitlines()):04}", what: name}


TOOLS: dict[str, list[Any]] = {
    "flight": [search_cheapest],
    "hotel": [search_by_rating],
    "booking": [reserve_flight, reserve_hotel],
}
for tool in TOOLS[sys.argv[1]]:
    server.tool(tool)
server.run()
