"""The people and figures that a new store begins with, dated from the day that it is made."""

import datetime as dt
import sqlite3
from typing import Final

# id, name, e-mail, phone, company, position, status, created and last contacted so many days ago, notes
_CONTACTS: Final = (
    ("contact_1", "Nguyễn Văn Anh", "anh@techsolutions.example", "+84 90 123 4567", "Tech Solutions", "CTO",
     "active", 240, 3, "Interested in AI solutions. Asked for a demo next week."),
    ("contact_2", "Trần Thị Bình", "binh@innovationhub.example", "+84 91 234 5678", "Innovation Hub", "CEO",
     "prospect", 60, 5, "Met at a conference; wants numbers before a second talk."),
    ("contact_3", "Lê Minh Châu", "chau@saigonretail.example", "+84 93 345 6789", "Saigon Retail", "Head of Data",
     "active", 400, 21, "Renewal is due; has not answered the last mail."),
    ("contact_4", "Phạm Quốc Đạt", "dat@mekongfoods.example", "+84 97 456 7890", "Mekong Foods", "COO",
     "prospect", 30, 12, "Compares two vendors."),
    ("contact_5", "Grace Okafor", "grace@lagoslabs.example", "+234 801 555 0134", "Lagos Labs", "VP Engineering",
     "active", 180, 9, "Happy with the pilot; the budget is decided in spring."),
    ("contact_6", "Jonas Weber", "jonas@nordwerk.example", "+49 40 555 0182", "Nordwerk Tech", "Procurement",
     "prospect", 14, 2, "New; asked for references."),
    ("contact_7", "Đặng Thu Hà", "ha@hanoimedia.example", "+84 98 567 8901", "Hanoi Media", "Director",
     "inactive", 900, 300, "Project ended."),
)  # fmt: skip
# id, contact, title, value, stage, created so many days ago
_OPPORTUNITIES: Final = (
    ("opp_1", "contact_1", "AI Consulting Project", 50_000, "proposal", 30),
    ("opp_2", "contact_2", "Analytics Pilot", 18_000, "prospecting", 20),
    ("opp_3", "contact_3", "Support Renewal", 24_000, "negotiation", 45),
    ("opp_4", "contact_4", "Cold Chain Dashboard", 42_000, "qualification", 12),
    ("opp_5", "contact_5", "Pilot Extension", 30_000, "proposal", 25),
    ("opp_6", "contact_7", "Archive Search", 12_000, "lost", 320),
)
_CUSTOMERS: Final = (
    ("CUST-123", "Tech Solutions"), ("CUST-456", "Mekong Foods"), ("CUST-789", "Saigon Retail"),
)  # fmt: skip
# From last month backwards; this month has begun.
_SALES: Final = (
    (95_000, 100_000), (104_500, 100_000), (88_000, 95_000), (97_250, 95_000), (91_000, 95_000), (99_900, 95_000),
)  # fmt: skip
_THIS_MONTH: Final = (41_000, 105_000)


def fill(connection: sqlite3.Connection, today: dt.date) -> None:
    """Put the sample into the empty tables of embedded.py. Raises sqlite3.Error."""
    for *row, created, last, notes in _CONTACTS:
        values = (*row, _before(today, created), _before(today, last), notes)
        connection.execute(f"INSERT INTO contacts VALUES ({', '.join('?' * len(values))})", values)
    for *start, stage, created in _OPPORTUNITIES:
        connection.execute(
            "INSERT INTO opportunities VALUES (?, ?, ?, ?, ?, ?)", (*start, stage, _before(today, created))
        )
    connection.executemany("INSERT INTO customers (id, name) VALUES (?, ?)", _CUSTOMERS)
    first = today.replace(day=1)
    for actual, target in (_THIS_MONTH, *_SALES):
        connection.execute("INSERT INTO sales VALUES (?, ?, ?)", (f"{first:%Y-%m}", actual, target))
        first = (first - dt.timedelta(days=1)).replace(day=1)


def _before(today: dt.date, days: int) -> str:
    return (today - dt.timedelta(days=days)).isoformat()
