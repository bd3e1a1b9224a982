"""The database's tools through its own process, on SQLite: the sample, and databases of others."""

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bascule.errors import ConfigInvalid
from bascule.packs import catalog
from packs.talking import Talk, talking

REVENUE_OF_VIPS = """
SELECT sum(o.amount) AS revenue FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE c.tier = 'vip' AND o.status = 'paid' AND o.ordered_on BETWEEN '2026-10-01' AND '2026-12-31'
"""
ORDER: dict[str, Any] = {"customer_id": 2, "product": "Loa Bluetooth", "amount": 49.5}


@pytest_asyncio.fixture
async def sample(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking("database", sqlite="sample", folder=str(tmp_path)) as talk:
        yield talk


def made(file: Path, script: str) -> str:
    """The path of a database that *script* makes."""
    connection = sqlite3.connect(file)
    connection.executescript(script)
    connection.close()
    return str(file)


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def count(talk: Talk, table: str) -> int:
    rows = (await talk.call("query_database", query=f"SELECT count(*) AS n FROM {table}"))["rows"]
    found: int = rows[0]["n"]
    return found


# ---- looking up


async def test_the_revenue_of_vip_customers_is_found_by_what_the_schema_says_of_them(sample: Talk) -> None:
    answer = await sample.request("resources/read", {"uri": "schema://tables"})
    schema = json.loads(answer["result"]["contents"][0]["text"])
    assert {table["table_name"] for table in schema["tables"]} == {"customers", "orders", "vip_customers"}
    customers = next(table for table in schema["tables"] if table["table_name"] == "customers")
    assert customers["description"].endswith("A VIP customer is one whose tier is 'vip'.")
    found = await sample.call("query_database", query=REVENUE_OF_VIPS)
    assert found["rows"] == [{"revenue": 8515.5}]


async def test_the_sample_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        async with talking("database", sqlite="sample", folder=str(tmp_path / name)) as talk:
            found.append(
                [await talk.call("query_database", query=f"SELECT * FROM {t}") for t in ("customers", "orders")]
            )
    assert found[0] == found[1]
    assert found[0][0]["rows"][0]["name"] == "Nguyễn Văn An"


async def test_tables_and_their_columns_are_described(sample: Talk) -> None:
    listed = await sample.call("list_tables")
    assert [(each["name"], each["kind"]) for each in listed["tables"]] == [
        ("customers", "table"), ("orders", "table"), ("vip_customers", "view"),
    ]  # fmt: skip
    assert listed["accepts_records"] == ["customers", "orders"]
    schema = await sample.call("get_table_schema", table_name="orders")
    column = next(each for each in schema["columns"] if each["name"] == "customer_id")
    assert (column["type"], column["not_null"], column["references"]) == ("INTEGER", True, "customers.id")
    answer = await sample.request("resources/read", {"uri": "schema://tables/orders"})
    assert json.loads(answer["result"]["contents"][0]["text"]) == schema


async def test_a_table_that_is_not_there_is_answered_with_those_that_are(sample: Talk) -> None:
    names = "Tables: customers, orders, vip_customers."
    assert await sample.refusal("get_table_schema", table_name="order") == f"There is no table 'order'. {names}"
    assert await sample.refusal("query_database", query="SELECT * FROM nope") == f"No such table: nope. {names}"
    answer = await sample.request("resources/read", {"uri": "schema://tables/nope"})
    assert names in answer["error"]["message"]


async def test_an_unknown_column_is_answered_with_where_to_look(sample: Talk) -> None:
    said = await sample.refusal("query_database", query="SELECT price FROM orders")
    assert said == "No such column: price. get_table_schema says the columns of a table."


async def test_cells_are_what_json_has_for_them(sample: Talk) -> None:
    query = "SELECT 1 AS i, 2.5 AS f, 'đ' AS t, NULL AS n, x'00ff' AS b, 9e999 AS x, -9223372036854775808 AS l, 1 AS i"
    (row,) = (await sample.call("query_database", query=query))["rows"]
    assert row == {"i": 1, "f": 2.5, "t": "đ", "n": None, "b": "x'00ff'", "x": "inf", "l": -(2**63), "i_2": 1}


async def test_rows_cells_and_the_whole_are_cut_at_what_the_operator_says(tmp_path: Path) -> None:
    limits = {"max_rows": 3, "max_cell_chars": 16, "max_result_bytes": 1024}
    async with talking("database", sqlite="sample", folder=str(tmp_path), **limits) as talk:
        rows = await talk.call("query_database", query="SELECT id FROM customers ORDER BY id")
        assert (rows["row_count"], rows["truncated"]) == (3, True)
        assert "more than 3 rows" in rows["note"]
        exact = await talk.call("query_database", query="SELECT id FROM customers LIMIT 3")
        assert not exact["truncated"]
        (cell,) = (await talk.call("query_database", query=f"SELECT '{'đ' * 17}' AS x"))["rows"]
        assert cell["x"] == "đ" * 16 + "…"
        whole = ", ".join(f"'{'x' * 15}' AS c{number}" for number in range(30))
        wide = await talk.call("query_database", query=f"SELECT {whole} UNION ALL SELECT {whole}")
        assert (wide["row_count"], wide["truncated"]) == (1, True)
        assert "1024 bytes" in wide["note"]


async def test_queries_run_side_by_side_and_a_slow_one_does_not_hold_the_others(tmp_path: Path) -> None:
    async with talking("database", sqlite="sample", folder=str(tmp_path), timeout_s=1.0) as talk:
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
        for id, query in ((1, endless), (2, "SELECT 1 AS n")):
            params = {"name": "query_database", "arguments": {"query": query}}
            line = json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
            assert talk.process.stdin is not None
            talk.process.stdin.write(line.encode() + b"\n")
        assert talk.process.stdout is not None
        first, second = [json.loads(await talk.process.stdout.readline()) for _ in range(2)]
        assert (first["id"], first["result"]["structuredContent"]["rows"]) == (2, [{"n": 1}])
        assert (second["id"], second["result"]["isError"]) == (1, True)


async def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    async with talking("database", sqlite=str(tmp_path / "none.sqlite")) as talk:
        assert "cannot be opened" in await talk.refusal("query_database", query="SELECT 1")
        assert "cannot be opened" in await talk.refusal("list_tables")
    assert left_in(tmp_path) == []


async def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_text("no database " * 100)
    async with talking("database", sqlite=str(tmp_path / "x.sqlite")) as talk:
        assert "file is not a database" in await talk.refusal("query_database", query="SELECT 1")
        assert "file is not a database" in await talk.refusal("list_tables")


async def test_names_that_need_quotes_are_only_names(tmp_path: Path) -> None:
    script = """CREATE TABLE "a""b; DROP TABLE c" ("x y" TEXT, "select" INTEGER); CREATE TABLE c (d);"""
    file = made(tmp_path / "odd.sqlite", script)
    odd = 'a"b; DROP TABLE c'
    async with talking("database", sqlite=file, inserts=[odd]) as talk:
        inserted = await talk.call("insert_record", table_name=odd, data={"x y": "v", "select": 5})
        assert inserted == {"table_name": odd, "row_id": 1, "key": {}}
        found = await talk.call("query_database", query='SELECT * FROM "a""b; DROP TABLE c"')
        assert found["rows"] == [{"x y": "v", "select": 5}]
        assert await count(talk, "c") == 0


# ---- arguments


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("query_database", {}),
        ("query_database", {"query": ""}),
        ("query_database", {"query": 5}),
        ("query_database", {"query": "x" * 100_001}),
        ("query_database", {"query": "SELECT 1", "params": []}),
        ("list_tables", {"like": "c%"}),
        ("get_table_schema", {}),
        ("get_table_schema", {"table_name": "x" * 129}),
        ("insert_record", {"table_name": "orders"}),
        ("insert_record", {"table_name": "orders", "data": {}}),
        ("insert_record", {"table_name": "orders", "data": []}),
        ("insert_record", {"table_name": "orders", "data": {"product": ["x"]}}),
        ("insert_record", {"table_name": "orders", "data": {f"c{n}": n for n in range(201)}}),
    ],
)
async def test_arguments_that_the_contract_does_not_allow_never_reach_the_database(
    sample: Talk, tool: str, arguments: dict[str, Any]
) -> None:
    assert "do not fit the tool's input schema" in await sample.refusal(tool, **arguments)


# ---- records


async def test_a_record_is_inserted_with_its_values_bound(sample: Talk) -> None:
    inserted = await sample.call(
        "insert_record", table_name="orders", data={**ORDER, "product": "'); DROP TABLE orders;--"}
    )
    assert inserted["table_name"] == "orders"
    assert inserted["key"] == {"id": inserted["row_id"]}
    found = await sample.call("query_database", query=f"SELECT * FROM orders WHERE id = {inserted['row_id']}")
    assert found["rows"][0]["product"] == "'); DROP TABLE orders;--"
    assert found["rows"][0]["status"] == "open"


async def test_one_key_inserts_one_record_also_after_a_restart(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        async with talking("database", sqlite="sample", folder=str(tmp_path)) as talk:
            before = await count(talk, "orders")
            answers += [
                await talk.call("insert_record", key="REQ-1", table_name="orders", data=ORDER) for _ in range(2)
            ]
            after = await count(talk, "orders")
    assert answers == [answers[0]] * 4
    assert (before, after) == (15, 15)


async def test_a_key_of_another_record_is_refused_and_changes_nothing(sample: Talk) -> None:
    await sample.call("insert_record", key="REQ-1", table_name="orders", data=ORDER)
    said = await sample.refusal("insert_record", key="REQ-1", table_name="orders", data={**ORDER, "amount": 50})
    assert said.startswith("This idempotency key has inserted another record.")
    assert await count(sample, "orders") == 15


async def test_a_key_of_what_failed_can_be_used_again(sample: Talk) -> None:
    await sample.refusal("insert_record", key="k", table_name="orders", data={**ORDER, "customer_id": 999})
    assert (await sample.call("insert_record", key="k", table_name="orders", data=ORDER))["row_id"] == 15


async def test_without_a_key_each_record_is_another_one(sample: Talk) -> None:
    await sample.call("insert_record", table_name="orders", data=ORDER)
    await sample.call("insert_record", table_name="orders", data=ORDER)
    assert await count(sample, "orders") == 16


@pytest.mark.parametrize(
    ("table", "data", "said"),
    [
        ("nope", ORDER, "Nothing may be inserted into 'nope' here. Tables that take records: customers, orders."),
        ("vip_customers", ORDER, "Nothing may be inserted into 'vip_customers' here."),
        ("bascule_keys", {"key": "k"}, "Nothing may be inserted into 'bascule_keys' here."),
        ("orders", {"price": 1}, "orders has no column 'price'. Columns of orders: id, customer_id, product, amount,"),
        ("orders", {"product) VALUES (1)--": 1}, "orders has no column"),
        ("orders", {"product": "x"}, "orders needs customer_id, amount."),
        ("orders", {**ORDER, "product": None}, "orders needs product."),
        ("orders", {**ORDER, "amount": "50"}, 'amount is DECIMAL(10,2) and cannot be "50". Give a number.'),
        ("orders", {**ORDER, "customer_id": 1.5}, "customer_id is INTEGER and cannot be 1.5. Give a whole number."),
        ("orders", {**ORDER, "customer_id": 2**63}, "Give a whole number."),
        ("orders", {**ORDER, "product": 5}, "product is TEXT and cannot be 5. Give a text."),
        ("orders", {**ORDER, "ordered_on": 20261121}, "Give a text, such as '2026-11-21' for a date."),
        ("orders", {**ORDER, "customer_id": 999}, "What it refers to has to be there first."),
        ("orders", {**ORDER, "status": "lost"}, "CHECK constraint failed"),
        ("orders", {**ORDER, "id": 1}, "There is such a record already: look it up with query_database."),
        ("customers", {"name": "x", "email": "an@example.com"}, "UNIQUE constraint failed: customers.email."),
    ],
)
async def test_a_record_that_does_not_fit_is_refused_with_what_would(
    sample: Talk, table: str, data: dict[str, Any], said: str
) -> None:
    before = await count(sample, "orders"), await count(sample, "customers")
    assert said in await sample.refusal("insert_record", table_name=table, data=data)
    assert (await count(sample, "orders"), await count(sample, "customers")) == before


async def test_nothing_is_inserted_where_the_operator_names_no_table(tmp_path: Path) -> None:
    file = made(tmp_path / "own.sqlite", "CREATE TABLE t (a INTEGER)")
    async with talking("database", sqlite=file) as talk:
        assert (await talk.call("list_tables"))["accepts_records"] == []
        said = await talk.refusal("insert_record", table_name="t", data={"a": 1})
    assert said == "Nothing may be inserted into 't' here. The operator allows it in the settings, `inserts`."


async def test_a_table_without_a_key_or_with_several_says_what_it_can(tmp_path: Path) -> None:
    script = "CREATE TABLE plain (a INTEGER); CREATE TABLE pair (a TEXT, b INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;"
    file = made(tmp_path / "keys.sqlite", script)
    async with talking("database", sqlite=file, inserts=["plain", "pair"]) as talk:
        assert await talk.call("insert_record", table_name="plain", data={"a": 7}) == {
            "table_name": "plain", "row_id": 1, "key": {},
        }  # fmt: skip
        assert await talk.call("insert_record", table_name="pair", data={"a": "x", "b": 2}) == {
            "table_name": "pair", "row_id": None, "key": {"a": "x", "b": 2},
        }  # fmt: skip


# ---- whatever is asked


_TEXT = """
SELECT * FROM customers orders WHERE 1 = DELETE UPDATE SET name INSERT INTO VALUES ( ) , ; DROP TABLE ATTACH 'x.db'
AS n PRAGMA writable_schema VACUUM CREATE TEMP VIEW WITH RECURSIVE RETURNING REPLACE BEGIN COMMIT -- /* */
load_extension ' " UNION ALL ORDER BY LIMIT count NULL x'00' REINDEX ANALYZE EXPLAIN
"""
_WORDS = st.sampled_from(_TEXT.split())


async def test_no_random_statement_changes_the_database_or_ends_the_process(tmp_path: Path) -> None:
    asked: list[str] = []

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_WORDS, min_size=1, max_size=14).map(" ".join) | st.text(min_size=1, max_size=60))
    def collect(query: str) -> None:
        asked.append(query)

    collect()
    async with talking("database", sqlite="sample", folder=str(tmp_path), timeout_s=2.0) as talk:
        await talk.call("list_tables")
        before = hashlib.sha256((tmp_path / "sample.sqlite").read_bytes()).hexdigest()
        for query in asked:
            result = await talk.try_call("query_database", query=query)
            assert result["content"][0]["text"]
        assert talk.process.returncode is None
    assert hashlib.sha256((tmp_path / "sample.sqlite").read_bytes()).hexdigest() == before
    assert left_in(tmp_path) == ["sample.sqlite"]


# ---- settings


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "settings"),
        ({"sqlite": "sample"}, "settings.folder"),
        ({"sqlite": "/x", "postgres": {"database": "d", "user": "u"}}, "settings"),
        ({"postgres": {"database": "d", "user": "u"}, "inserts": ["t"]}, "settings.postgres.writer"),
        ({"postgres": {"database": "d"}}, "settings.postgres"),
        ({"postgres": {"database": "d", "user": "u", "port": 0}}, "settings.postgres.port"),
        ({"sqlite": "/x", "max_rows": 0}, "settings.max_rows"),
        ({"sqlite": "/x", "timeout_s": 0}, "settings.timeout_s"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        catalog.options_of("database", settings)
    assert refused.value.field == field


def test_a_process_that_only_reads_may_not_write() -> None:
    reads = catalog.options_of("database", {"sqlite": "/srv/shop.sqlite"}).sandbox()
    assert (reads.read, reads.write, reads.network) == (("/srv",), (), "none")
    inserts = catalog.options_of("database", {"sqlite": "/srv/shop.sqlite", "inserts": ["t"]}).sandbox()
    assert (inserts.write, inserts.network) == (("/srv",), "none")
    far = {"postgres": {"database": "d", "user": "u", "password": "hidden", "port": 5433}}
    assert catalog.options_of("database", far).sandbox().network == (53, 5433)
    assert "hidden" not in repr(catalog.options_of("database", far))
