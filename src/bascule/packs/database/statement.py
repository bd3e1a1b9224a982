"""Looks at a statement of PostgreSQL before it is sent: one SELECT, known functions, tables of one schema. PURE.

A second look, and not the one that everything hangs on: that is the engine's (postgres.py). It is there where sqlglot
is installed. A statement that sqlglot cannot read is refused, or writing it badly would be the way around this.
"""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from bascule.packs.pack import ToolFailed

if TYPE_CHECKING:
    from sqlglot import exp

# Functions of PostgreSQL for which sqlglot has no class of its own, so that they look like anybody's.
FUNCTIONS: Final = frozenset((
    *("age", "array_dims", "array_fill", "array_ndims", "array_positions", "array_remove"),
    *("array_replace", "ascii", "bit_length", "btrim", "cardinality", "cbrt", "char_length"),
    *("character_length", "clock_timestamp", "convert_from", "cume_dist", "date_bin", "date_part"),
    *("degrees", "div", "erf", "factorial", "gcd", "initcap", "isfinite", "json_array_elements"),
    *("json_array_elements_text", "json_array_length", "json_build_array", "json_build_object"),
    *("json_each", "json_each_text", "json_object_keys", "json_typeof", "jsonb_array_elements"),
    *("jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object"),
    *("jsonb_each", "jsonb_each_text", "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_query"),
    *("jsonb_pretty", "jsonb_typeof", "justify_days", "justify_hours", "justify_interval", "lcm"),
    *("log10", "lower_inc", "make_date", "make_interval", "make_time", "make_timestamp"),
    *("make_timestamptz", "min_scale", "mode", "num_nonnulls", "num_nulls", "octet_length", "overlay"),
    *("percentile_cont", "percentile_disc", "phraseto_tsquery", "pi", "plainto_tsquery", "quote_ident"),
    *("quote_literal", "radians", "regexp_match", "regexp_matches", "regexp_split_to_array"),
    *("regexp_split_to_table", "regr_intercept", "regr_r2", "regr_slope", "row", "row_to_json", "scale"),
    *("similarity", "statement_timestamp", "string_to_table", "to_char", "to_json", "to_jsonb"),
    *("to_number", "to_tsquery", "to_tsvector", "translate", "trim_scale", "ts_headline", "ts_rank"),
    *("unistr", "upper_inc", "websearch_to_tsquery", "width_bucket"),
))  # fmt: skip
_DO: Final = "Send one SELECT over the tables that list_tables gives, with the usual functions of SQL."


def is_installed() -> bool:
    return find_spec("sqlglot") is not None


def check(query: str, schema: str) -> None:
    """Raises ToolFailed for what is no plain SELECT over the tables of *schema*."""
    import sqlglot
    from sqlglot import exp

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # what it cannot read is an answer here, not a warning
    try:
        statements = [each for each in sqlglot.parse(query, read="postgres") if each is not None]
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        raise ToolFailed("The statement cannot be understood.", _DO) from error
    if len(statements) != 1:
        raise ToolFailed(f"There are {len(statements)} statements.", "Send one SELECT, without what follows.")
    if not isinstance(statements[0], exp.Query | exp.Values):
        raise ToolFailed("The statement is no SELECT.", _DO)
    for why in _objections(statements[0], schema):
        raise ToolFailed(why, _DO)


def _objections(statement: "exp.Expr", schema: str) -> Iterator[str]:
    from sqlglot import exp

    for node in statement.walk():
        if isinstance(node, exp.DML | exp.DDL | exp.Command | exp.Into | exp.Lock) and not isinstance(node, exp.Query):
            yield f"A query can only read here: {node.key.upper()} is refused."
        if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc) and node.name.casefold() not in FUNCTIONS:
            yield f"The function {node.name}() may not be used here."
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            foreign = node.catalog or node.db not in ("", schema)
            if foreign or node.name.casefold().startswith(("pg_", "bascule_")):
                yield f"There is no table {'.'.join(part for part in (node.db, node.name) if part)!r} that may be read."
