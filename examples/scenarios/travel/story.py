"""A trip is planned freely, but booked only within its budget, once, and with the traveller's yes."""

from agent import Agent

CALLERS = ("agent",)
DIALOG = True  # the traveller sits at the client


async def story(agent: Agent) -> None:
    agent.user(
        "Tìm chuyến bay rẻ nhất từ Hà Nội vào TP.HCM ngày 25/12 và một phòng khách sạn 4 sao gần trung tâm, "
        "tất cả không quá 300 USD."
    )
    agent.reason("Two searches first: they change nothing. Then book what fits into 300 USD.")
    flight = await agent.call(
        "flight/search_cheapest", {"origin": "Hà Nội", "destination": "TP.HCM", "date": "2026-12-25"}
    )
    hotels = (await agent.call("hotel/search_by_rating", {"city": "TP.HCM", "stars": 4}))["hotels"]
    nearest, next_one = hotels

    total = flight["price_usd"] + nearest["price_usd"]
    agent.reason(f"The nearest is {nearest['hotel']}; with the flight that is {total} USD. I book it.")
    await agent.refused("booking/reserve_hotel", room(nearest, total), "guardrail_denied", key="trip-4711-hotel-a")

    total = flight["price_usd"] + next_one["price_usd"]
    agent.reason(f"Too dear. {next_one['hotel']} is a little further out, and all of it {total} USD.")
    seat = {"flight": flight["flight"], "price_usd": flight["price_usd"], "trip_total_usd": total}
    await agent.call("booking/reserve_flight", seat, key="trip-4711-flight")
    first = await agent.call("booking/reserve_hotel", room(next_one, total), key="trip-4711-hotel-b")

    agent.reason("The line was bad: did that go through? The same key is the same booking, so I send it again.")
    again = await agent.call("booking/reserve_hotel", room(next_one, total), key="trip-4711-hotel-b")
    agent.see("the same booking number both times", first == again)
    lines = (agent.work / "bookings.txt").read_text(encoding="utf-8").splitlines()
    agent.see("one flight and one room are booked", [line.split()[0] for line in lines] == ["flight", "hotel"])


def room(hotel: dict[str, float], total_usd: float) -> dict[str, object]:
    return {"hotel": hotel["hotel"], "price_usd": hotel["price_usd"], "trip_total_usd": total_usd}
