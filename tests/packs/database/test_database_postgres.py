"""The database's tools on a real PostgreSQL: who may read, what cells are, records once per key."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest

from bascule.packs.database import statement
from bascule.packs.pack import ToolFailed
from packs.database.postgres import OWNER, PASSWORD, WRITER, Postgres, postgres
from packs.talking import talking

ORDER: Final[dict[str, Any]] = {"customer_id": 1, "amount": 12.34}
INSERTS: Final = ["customers", "orders", "pairs"]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


def settings(server: Postgres) -> dict[str, Any]:
    writer = {"user": WRITER, "password": PASSWORD}
    return {"postgres": server.settings(writer=writer), "inserts": INSERTS}


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (OWNER, "The role 'owner' is not one to read as: it is a superuser"),
        (WRITER, "The role 'writer' is not one to read as: it may write to"),
        ("nobody", "The database cannot be reached."),
    ],
)
async def test_only_a_role_that_can_do_no_more_reads(server: Postgres, user: str, said: str) -> None:
    async with talking("database", postgres=server.settings(user)) as talk:
        for tool, arguments in (("query_database", {"query": "SELECT 1"}), ("list_tables", {})):
            assert said in await talk.refusal(tool, None, **arguments)


@pytest.mark.parametrize(
    ("grant", "revoke", "said"),
    [
        ("GRANT pg_read_server_files TO reader", "REVOKE pg_read_server_files FROM reader", "member of pg_read_server"),
        ("GRANT owner TO reader", "REVOKE owner FROM reader", "can become owner"),
        ("GRANT UPDATE ON secrets TO reader", "REVOKE UPDATE ON secrets FROM reader", "may write to secrets"),
        ("ALTER TABLE secrets OWNER TO reader", "ALTER TABLE secrets OWNER TO owner", "may write to secrets"),
        ("ALTER ROLE reader CREATEROLE", "ALTER ROLE reader NOCREATEROLE", "make roles"),
        (
            "CREATE FUNCTION dblink(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "DROP FUNCTION dblink(text)",
            "may call dblink(text)",
        ),
    ],
)
async def test_a_role_that_was_given_more_is_refused(server: Postgres, grant: str, revoke: str, said: str) -> None:
    await asyncio.to_thread(server.run, grant)
    try:
        async with talking("database", postgres=server.settings()) as talk:
            assert said in await talk.refusal("query_database", query="SELECT 1")
    finally:
        await asyncio.to_thread(server.run, revoke)


async def test_cells_are_what_json_has_for_them(server: Postgres) -> None:
    query = r"""SELECT 1 AS i, 2::bigint AS l, 1.5::float8 AS f, 'NaN'::float8 AS n, 25.50::numeric AS d, true AS t,
      NULL AS e, '2026-01-02'::date AS day, '\x00ff'::bytea AS b, '{"a": 1}'::jsonb AS j, ARRAY[1, 2] AS a,
      'đ' AS s, 2 AS i"""
    async with talking("database", postgres=server.settings()) as talk:
        (row,) = (await talk.call("query_database", query=query))["rows"]
    assert row == {
        "i": 1, "l": 2, "f": 1.5, "n": "nan", "d": "25.50", "t": True, "e": None, "day": "2026-01-02", "b": "x'00ff'",
        "j": '{"a": 1}', "a": "{1,2}", "s": "đ", "i_2": 2,
    }  # fmt: skip


async def test_the_schema_is_that_of_what_may_be_read(server: Postgres) -> None:
    async with talking("database", **settings(server), descriptions={"orders": "What was bought."}) as talk:
        listed = await talk.call("list_tables")
        schema = await talk.call("get_table_schema", table_name="orders")
        said = await talk.refusal("get_table_schema", table_name="secrets")
        customers = await talk.call("get_table_schema", table_name="customers")
    assert [each["name"] for each in listed["tables"]] == ["customers", "orders", "pairs"]
    assert schema["description"] == "What was bought."
    assert customers["description"] == "People who have bought something."
    assert next(each for each in customers["columns"] if each["name"] == "tier")["description"] == "standard or vip"
    assert [(each["name"], each["primary_key"], each["references"]) for each in schema["columns"]] == [
        ("id", True, ""), ("customer_id", False, "customers.id"), ("amount", False, ""), ("ordered_on", False, ""),
    ]  # fmt: skip
    assert said == "There is no table 'secrets'. Tables: customers, orders, pairs."


async def test_one_key_inserts_one_record_also_at_the_same_time(server: Postgres) -> None:
    async with talking("database", **settings(server)) as one, talking("database", **settings(server)) as other:
        pairs = [(talk, number) for number in range(3) for talk in (one, other)]
        answers = []
        for number in range(3):
            both = [talk for talk, at in pairs if at == number]
            asked = (talk.call("insert_record", key=f"K-{number}", table_name="orders", data=ORDER) for talk in both)
            answers.append(await asyncio.gather(*asked))
        assert all(first == second for first, second in answers)
        said = await one.refusal("insert_record", key="K-0", table_name="orders", data={**ORDER, "amount": 1})
    assert said.startswith("This idempotency key has inserted another record.")
    ids = [first["row_id"] for first, _ in answers]
    assert await asyncio.to_thread(
        server.run, f"SELECT count(*) FROM orders WHERE id IN ({ids[0]}, {ids[1]}, {ids[2]})"
    ) == [(3,)]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("table", "data", "said"),
    [
        ("secrets", {"word": "x"}, "Nothing may be inserted into 'secrets' here."),
        ("orders", {"price": 1}, "orders has no column 'price'."),
        ("orders", {"amount": 1}, "orders needs customer_id."),
        ("orders", {**ORDER, "amount": "x"}, "amount is numeric(10,2) and cannot be"),
        ("orders", {**ORDER, "ordered_on": "soon"}, 'Invalid input syntax for type date: "soon".'),
        ("orders", {**ORDER, "customer_id": 2**40}, "out of range for type integer"),
        ("orders", {**ORDER, "customer_id": 999}, "What it refers to has to be there first."),
        ("orders", {**ORDER, "amount": -1}, 'violates check constraint "orders_amount_check".'),
        ("orders", {**ORDER, "id": 1}, 'Cannot insert a non-DEFAULT value into column "id".'),
        ("customers", {"name": "x", "email": "an@example.com"}, "Key (email)=(an@example.com) already exists."),
    ],
)
async def test_a_record_that_does_not_fit_is_refused_with_what_would(
    server: Postgres, table: str, data: dict[str, Any], said: str
) -> None:
    before = await asyncio.to_thread(server.run, "SELECT count(*) FROM orders")
    async with talking("database", **settings(server)) as talk:
        assert said in await talk.refusal("insert_record", table_name=table, data=data)
    assert await asyncio.to_thread(server.run, "SELECT count(*) FROM orders") == before


async def test_a_key_of_several_columns_is_said(server: Postgres) -> None:
    async with talking("database", **settings(server)) as talk:
        inserted = await talk.call("insert_record", table_name="pairs", data={"left_id": 1, "right_id": 2})
    assert inserted == {"table_name": "pairs", "row_id": None, "key": {"left_id": 1, "right_id": 2}}


async def test_a_server_that_is_not_there_is_a_sentence_without_names() -> None:
    nobody = {"host": "127.0.0.1", "port": 1, "database": "d", "user": "canary-user", "password": "p", "tls": "off"}
    async with talking("database", postgres=nobody) as talk:
        said = await talk.refusal("query_database", query="SELECT 1")
    assert said == "The database cannot be reached. Try again later, or tell its operator."


async def test_a_server_without_tls_is_not_believed_by_default(server: Postgres) -> None:
    for tls in ("verify", "require"):
        async with talking("database", postgres=server.settings(tls=tls)) as talk:
            assert "cannot be reached" in await talk.refusal("query_database", query="SELECT 1")


# ---- the look at a statement before it is sent


@pytest.mark.parametrize(
    "query",
    [
        "SELECT c.name, sum(o.amount) FILTER (WHERE o.amount > 1) FROM customers c JOIN orders o ON c.id = customer_id"
        " GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 5",
        "WITH a AS (SELECT 1 AS n) SELECT * FROM a UNION ALL SELECT 2",
        "SELECT date_trunc('month', at), to_char(at, 'Y'), extract(year FROM at) FROM public.orders o(a, b, c, at)",
        "SELECT rank() OVER (PARTITION BY customer_id ORDER BY amount), lag(amount) OVER w FROM orders WINDOW w AS ()",
        "VALUES (1), (2)",
        "TABLE customers",
        "SELECT coalesce(tier, 'x'), CASE WHEN id > 1 THEN 1 END, id::text, trim(name) ILIKE 'a%' FROM customers",
        "SELECT * FROM generate_series(1, 3) AS g(x)",
    ],
)
def test_a_plain_select_passes_the_look(query: str) -> None:
    statement.check(query, "public")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1; SELECT 2",
        "DELETE FROM orders",
        "SELECT * FROM other.customers",
        "SELECT * FROM elsewhere.public.customers",
        "SELECT * FROM pg_user",
        "SELECT (SELECT pg_sleep(1))",
        "SELECT * FROM customers WHERE name = (SELECT dblink_exec('x'))",
        "SELECT set_config('a.b', 'c', true)",
        "",
        "no statement at all (",
    ],
)
def test_everything_else_does_not(query: str) -> None:
    with pytest.raises(ToolFailed):
        statement.check(query, "public")
