"""A small database to try things with: customers and orders of a shop. The same rows wherever it is made.

Amounts are in USD, dates are of 2026. Who is a VIP is the business's word, so it is written down with the tables.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

DESCRIPTIONS: Final = {
    "customers": "People who have bought something. A VIP customer is one whose tier is 'vip'.",
    "customers.id": "Number of the customer.",
    "customers.tier": "standard, or vip: a customer whose orders came to 5000 USD or more in a year.",
    "customers.joined_on": "Day of the first order, YYYY-MM-DD.",
    "orders": "One line for each order. Revenue is the sum of `amount` where `status` is 'paid'.",
    "orders.customer_id": "Who ordered: customers.id.",
    "orders.amount": "In USD, all items together.",
    "orders.ordered_on": "YYYY-MM-DD. The fourth quarter of 2026 is October to December.",
    "orders.status": "paid, open or cancelled.",
}
INSERTS: Final = ("customers", "orders")

_SCHEMA: Final = """
CREATE TABLE customers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  email TEXT NOT NULL UNIQUE,
  city TEXT,
  tier TEXT NOT NULL DEFAULT 'standard' CHECK (tier IN ('standard', 'vip')),
  joined_on DATE NOT NULL DEFAULT CURRENT_DATE
);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (id),
  product TEXT NOT NULL,
  amount DECIMAL(10,2) NOT NULL CHECK (amount >= 0),
  ordered_on DATE NOT NULL DEFAULT CURRENT_DATE,
  status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'paid', 'cancelled'))
);
CREATE INDEX orders_of_customer ON orders (customer_id);
CREATE VIEW vip_customers AS SELECT id, name, email, city, joined_on FROM customers WHERE tier = 'vip';
"""

_CUSTOMERS: Final = (
    ("Nguyễn Văn An", "an@example.com", "Hà Nội", "vip", "2024-02-11"),
    ("Trần Thị Bình", "binh@example.com", "Đà Nẵng", "standard", "2025-03-04"),
    ("Lê Văn Cường", "cuong@example.com", "Hồ Chí Minh", "vip", "2024-08-19"),
    ("Phạm Thu Dung", "dung@example.com", "Cần Thơ", "standard", "2026-01-09"),
    ("Grace Okafor", "grace@example.com", "Lagos", "vip", "2025-06-30"),
    ("Tom Fischer", "tom@example.com", "Hamburg", "standard", "2025-11-02"),
    ("Mai Đặng", "mai@example.com", "Huế", "standard", "2026-05-27"),
    ("Ana Silva", "ana@example.com", "Porto", "standard", "2026-07-15"),
)
_ORDERS: Final = (
    (1, "Laptop", 1850.00, "2026-10-03", "paid"),
    (1, "Mouse", 25.50, "2026-10-03", "paid"),
    (1, "Monitor", 640.00, "2026-11-12", "paid"),
    (2, "Phone", 1120.00, "2026-10-21", "paid"),
    (3, "Headphones", 210.00, "2026-10-08", "paid"),
    (3, "Server rack", 5400.00, "2026-11-02", "paid"),
    (3, "Cable set", 80.00, "2026-11-18", "open"),
    (4, "Tablet", 560.00, "2026-09-14", "paid"),
    (5, "Workstation", 4300.00, "2026-08-25", "paid"),
    (5, "Graphics tablet", 390.00, "2026-10-30", "paid"),
    (5, "Desk", 720.00, "2026-11-09", "cancelled"),
    (6, "Keyboard", 95.00, "2026-10-17", "paid"),
    (7, "Camera", 880.00, "2026-11-15", "open"),
    (8, "Printer", 230.00, "2026-07-15", "paid"),
)


def ensure(file: Path) -> None:
    """Make the sample at *file*, whole or not at all, unless it is there. Raises OSError, sqlite3.Error."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    connection = sqlite3.connect(new)
    try:
        connection.executescript(_SCHEMA)
        connection.executemany(
            "INSERT INTO customers (name, email, city, tier, joined_on) VALUES (?, ?, ?, ?, ?)", _CUSTOMERS
        )
        connection.executemany(
            "INSERT INTO orders (customer_id, product, amount, ordered_on, status) VALUES (?, ?, ?, ?, ?)", _ORDERS
        )
        connection.commit()
    finally:
        connection.close()
    os.replace(new, file)
