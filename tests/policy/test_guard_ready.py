"""Ready rules: what they let through is the same however it is read; everything else is refused."""

import posixpath
import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bascule.policy.facts import Facts
from bascule.policy.guard import compile_guards
from bascule.policy.guardrails import Guardrail
from bascule.policy.ready import addresses, day_of

NOW = datetime(2026, 7, 28, 12, tzinfo=UTC)
FINE, FOUND, UNDECIDED = "allow", "ask", "deny"  # the effect of every rule here is `ask`, so that the two differ


def effect(rule: dict[str, Any], args: Any, *, session: Any = None, attributes: Any = None) -> str:
    compiled = compile_guards([msgspec.convert(rule | {"effect": "ask"}, Guardrail)], None)
    return compiled.judge(Facts(args, {"attributes": attributes or {}}, {}, session or {}, NOW)).effect


# ---- fields


@pytest.mark.parametrize(
    ("field", "args", "expected"),
    [
        ("a", {"a": 1}, FINE),
        ("a", {"a": 11}, FOUND),
        ("a", {}, UNDECIDED),
        ("a", {"a": None}, UNDECIDED),
        ("a", None, UNDECIDED),
        ("a", [1], UNDECIDED),
        ("a?", {}, FINE),
        ("a?", {"a": None}, FINE),
        ("a?", None, FINE),
        ("a?", {"a": 11}, FOUND),
        ("a?", {"a": "1"}, UNDECIDED),
        ("a?", [1], UNDECIDED),
        ("a.b", {"a": {"b": 11}}, FOUND),
        ("a.b", {"a": {"b": 1}}, FINE),
        ("a.b", {"a.b": 1}, UNDECIDED),
        ("a.b", {"a": 3}, UNDECIDED),
        ("a.b?", {"a": 3}, UNDECIDED),
        ("a.b?", {"a": None}, FINE),
        ("a.b?", {}, FINE),
        ("a", {"a": [1, 11]}, FOUND),
        ("a", {"a": [1, 2]}, FINE),
        ("a", {"a": []}, FINE),
        ("a", {"a": [1, None]}, UNDECIDED),
        ("a", {"a": [[1]]}, UNDECIDED),
        ("a[].p", {"a": [{"p": 1}, {"p": 11}]}, FOUND),
        ("a[].p", {"a": [{"p": 1}, {}]}, UNDECIDED),
        ("a[].p?", {"a": [{"p": 1}, {}]}, FINE),
        ("a[].p", {"a": {"p": 1}}, UNDECIDED),
        ("a[][]", {"a": [[1], [11]]}, FOUND),
        ("a[].p[].q", {"a": [{"p": [{"q": 11}]}]}, FOUND),
        ("a", {"a": [1] * 10_001}, UNDECIDED),
    ],
)
def test_a_field_is_found_missing_or_of_the_wrong_type(field: str, args: Any, expected: str) -> None:
    assert effect({"max_amount": {"field": field, "limit": 10}}, args) == expected


# ---- amounts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, FINE),
        (10, FINE),
        (10.0, FINE),
        (10.000001, FOUND),
        (-0.01, FOUND),
        (2**70, FOUND),
        (10**400, FOUND),
        (1e308, FOUND),
        (float("inf"), FOUND),
        (float("nan"), FOUND),
        (True, UNDECIDED),
        ("5", UNDECIDED),
        ({}, UNDECIDED),
    ],
)
def test_an_amount_is_a_number_from_zero_up_to_its_limit(value: Any, expected: str) -> None:
    assert effect({"max_amount": {"field": "a", "limit": 10}}, {"a": value}) == expected


# ---- recipients

WITHIN: dict[str, Any] = {"recipients_within": {"field": "to", "domains": ["Example.com", "xn--cng-ty-h3a.vn"]}}


@pytest.mark.parametrize(
    "to",
    [
        "a@example.com",
        "A.B+tag@EXAMPLE.com",
        " a@example.com ",
        "Ann <a@example.com>",
        "Nguyễn Văn An <an@example.com>",
        '"Doe, Ann \\"x\\"" <a@example.com>',
        "<a@example.com>",
        "a@example.com, Bob <b@example.com>; c@example.com",
        ["a@example.com", "b@example.com,c@example.com"],
        [],
        "a@xn--cng-ty-h3a.vn",
    ],
)
def test_recipients_of_the_domains_are_fine(to: Any) -> None:
    assert effect(WITHIN, {"to": to}) == FINE


@pytest.mark.parametrize(
    "to",
    [
        "a@evil.com",
        "a@sub.example.com",
        "a@example.com.evil.com",
        "a@notexample.com",
        "a@example.co",
        "Ann <a@evil.com>",
        '"a@example.com" <a@evil.com>',
        '"x\\" <a@example.com>" <a@evil.com>',
        "a@example.com, b@evil.com",
        ["a@example.com", "b@evil.com"],
        "a@xn--xmple-gra9b.com",
    ],
)
def test_a_recipient_of_another_domain_is_found(to: Any) -> None:
    assert effect(WITHIN, {"to": to}) == FOUND


@pytest.mark.parametrize(
    "to",
    [
        "",
        " ",
        ",",
        "a@example.com,",
        "a@example.com,,b@example.com",
        "a",
        "@example.com",
        "a@",
        "a@example",
        "a b@example.com",
        "a@example.com b@example.com",
        "a@example.com\nBcc: b@evil.com",
        "a@example.com\r\n",
        "a@example.com\0",
        "a@\u0435xample.com",
        "a@example\u3002com",
        "a@example.com\u200b",
        "a@ex\u00adample.com",
        "a@\uff45xample.com",
        "a@EXAMPLE.\u212aom",
        "\u017f@example.com",
        "a@example.com.",
        "a@[127.0.0.1]",
        "a@-example.com",
        '"a"@example.com',
        '"a@evil.com"@example.com',
        "a@evil.com@example.com",
        "a%evil.com@example.com",
        "evil.com!a@example.com",
        "@evil.com:a@example.com",
        "a@example.com (b@evil.com)",
        "a(b@evil.com)@example.com",
        "team: a@evil.com, b@example.com;",
        "b@evil.com <a@example.com>",
        "Ann <a@example.com> <b@evil.com>",
        "Ann <a@example.com",
        "a@example.com>",
        "<a@example.com",
        "-oQ/tmp@example.com",
        "|/bin/sh@example.com",
        "mailto:a@example.com",
        "=?utf-8?q?a=40evil.com?= <a@example.com>, b",
        ["a@example.com", 3],
        ["a@example.com", None],
        [["a@example.com"]],
        {"email": "a@example.com"},
        3,
        ",".join(["a@example.com"] * 1001),
        "x" * 70_000,
    ],
)
def test_what_mail_programs_could_read_in_two_ways_is_refused(to: Any) -> None:
    assert effect(WITHIN, {"to": to}) == UNDECIDED


def test_only_oneself_is_the_address_of_the_caller() -> None:
    rule = {"recipients_within": {"field": "to", "self_only": True}}
    me = {"email": "Ann@Example.com"}
    assert effect(rule, {"to": "Ann <ann@example.com>"}, attributes=me) == FINE
    assert effect(rule, {"to": "bob@example.com"}, attributes=me) == FOUND
    for attributes in ({}, {"email": None}, {"email": "a@b.c, d@e.f"}, {"email": ["ann@example.com"]}, {"email": ""}):
        assert effect(rule, {"to": "ann@example.com"}, attributes=attributes) == UNDECIDED


def test_oneself_and_domains_add_up() -> None:
    rule = {"recipients_within": {"field": "to", "domains": ["example.com"], "self_only": True}}
    assert effect(rule, {"to": ["b@example.com", "me@home.test"]}, attributes={"email": "me@home.test"}) == FINE
    assert effect(rule, {"to": "x@home.test"}, attributes={"email": "me@home.test"}) == FOUND


@given(st.text(alphabet='ab@.,;<>"\\ \t()[]:x-', max_size=40))
def test_what_is_fine_names_nothing_but_the_domain(text: str) -> None:
    if effect({"recipients_within": {"field": "to", "domains": ["a.b"]}}, {"to": text}) == FINE:
        assert {domain for _, domain in addresses(text)} == {"a.b"}


@pytest.mark.parametrize(
    "text",
    [
        " " * 60000,
        "a" * 60000,
        '"' * 60000,
        "a." * 30000,
        "a@" * 30000,
        '"\\' * 30000,
        "a@b." * 15000,
        "<" * 60000,
        "a " * 30000 + "<",
        "\t" * 60000 + "a@b.c!",
        "a@" + "b-" * 30000,
    ],
)
def test_hostile_text_is_read_in_time_that_grows_with_its_length_alone(text: str) -> None:
    began = time.thread_time()
    assert effect(WITHIN, {"to": text}) == UNDECIDED
    assert effect({"path_within": {"field": "to", "roots": ["/srv"]}}, {"to": "/" + text.replace(" ", "a/")}) != FINE
    assert time.thread_time() - began < 0.5


# ---- paths


def path_effect(path: Any, *roots: str) -> str:
    return effect({"path_within": {"field": "p", "roots": list(roots)}}, {"p": path})


@pytest.mark.parametrize(
    ("path", "roots"),
    [
        ("/srv/root/a.txt", ["/srv/root"]),
        ("/srv/root", ["/srv/root"]),
        ("/srv/root/", ["/srv/root/"]),
        ("/srv//root/./a/../b", ["/srv/root"]),
        ("/srv/other/../root/a", ["/srv/root"]),
        ("/srv/root/..hidden/a..b", ["/srv/root"]),
        ("/srv/root/Báo cáo 100%.pdf", ["/srv/root"]),
        ("/var/x", ["/srv/root", "/var"]),
        ("/etc/passwd", ["/"]),
        ("file:///srv/root/a", ["/srv/root"]),
        ("a/b.txt", ["."]),
        ("a/../b.txt", ["."]),
        ("data/b.txt", ["./data"]),
        ("C:\\Data\\a.txt", ["c:\\data"]),
        ("c:/data/a.txt", ["C:\\Data"]),
        ("/srv/root/a\\b", ["/srv/root"]),
        (["/srv/root/a", "/srv/root/b"], ["/srv/root"]),
    ],
)
def test_a_path_under_a_root_is_fine(path: Any, roots: list[str]) -> None:
    assert path_effect(path, *roots) == FINE


@pytest.mark.parametrize(
    ("path", "roots"),
    [
        ("/srv/rootx/a", ["/srv/root"]),
        ("/srv/roo", ["/srv/root"]),
        ("/srv/root/../a", ["/srv/root"]),
        ("/srv/root/a/../../b", ["/srv/root"]),
        ("/srv/root/../../../../etc/passwd", ["/srv/root"]),
        ("/srv/root\\..\\..\\etc", ["/srv/root"]),
        ("/srv/root/a\\b/../../c", ["/srv/root"]),
        ("/SRV/root/a", ["/srv/root"]),
        ("srv/root/a", ["/srv/root"]),
        ("../a", ["."]),
        ("a/../../b", ["."]),
        ("..", ["."]),
        ("/a", ["."]),
        ("other/a", ["data"]),
        ("C:\\Windows", ["C:\\Data"]),
        ("D:\\Data\\a", ["C:\\Data"]),
        ("C:\\Data\\..\\Windows", ["C:\\Data"]),
        ("C:\\Data\\a.txt:stream", ["C:\\Data"]),
        ("C:\\Data\\a. ", ["C:\\Data"]),
        ("/srv/root/a", ["C:\\srv\\root"]),
        ("C:\\srv\\root", ["/srv/root"]),
        ("\\srv\\root\\a", ["/srv/root"]),
        (["/srv/root/a", "/etc/passwd"], ["/srv/root"]),
    ],
)
def test_a_path_elsewhere_is_found(path: Any, roots: list[str]) -> None:
    assert path_effect(path, *roots) == FOUND


@pytest.mark.parametrize(
    "path",
    [
        "",
        " ",
        "~",
        "~/a",
        "~root/a",
        "/srv/root/a\0.txt",
        "/srv/root/a\nb",
        "/srv/root/%2e%2e/%2e%2e/etc",
        "/srv/root/%2E%2E%2Fetc",
        "/srv/root/$HOME/a",
        "/srv/root/${X}",
        "/srv/root/$(id)",
        "/srv/root/%TEMP%/a",
        "/srv/root/... /a",
        "/srv/root/.. /a",
        "/srv/root/\uff0e\uff0e/a",
        "/srv/root\uff0f..",
        "/srv/root/\u2024\u2024/a",
        "file:///srv/root/../a",
        "file:///srv/root/a%2e",
        "file:///srv/root/a?x",
        "file:///C:/srv/root",
        "file://host/srv/root/a",
        "file:/srv/root/a",
        "FILE://localhost/srv/root",
        "https://example.com/srv/root",
        "data:text/plain,x",
        "//host/share",
        "\\\\host\\share",
        "\\\\?\\C:\\Data",
        "C:a.txt",
        "C:",
        3,
        None,
        {"path": "/srv/root/a"},
    ],
)
def test_what_is_no_plain_path_is_refused(path: Any) -> None:
    assert path_effect(path, "/srv/root", "C:\\Data", ".") == UNDECIDED


@given(st.text(alphabet="ab./\\:~%-_ ", max_size=24))
@example("/a/b/../b")
@example("/a/b\\../..")
def test_a_path_that_is_fine_is_under_its_root_for_posix_and_for_windows(path: str) -> None:
    if path_effect(path, "/a/b") == FINE:
        plain = path.removeprefix("file://")
        for reading in (plain, plain.replace("\\", "/")):
            resolved = posixpath.normpath(reading)
            assert resolved == "/a/b" or resolved.startswith("/a/b/")


# ---- dates


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2026-07-28", 0),
        ("2026-06-28", -30),
        ("2026-07-28T23:59:59Z", 0),
        ("2026-07-28T23:59:59", 0),
        ("2026-07-28 23:59", 0),
        ("2026-07-28T23:30:00-01:00", 1),
        ("2026-07-28T00:30:00+01:00", -1),
        ("2026-07-28t10:00:00.123456789z", 0),
    ],
)
def test_a_date_is_a_day_in_utc(text: str, days: int) -> None:
    assert day_of(text) == NOW.date() + timedelta(days=days)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "today",
            "2026-7-28",
            "2026-02-30",
            "2026-W31-2",
            "20260728",
            "28/07/2026",
            "2026-07-28T",
            "2026-07-28T25:00",
        ),
        *("2026-07-28T10:00:00+99:00", "2026-07-28T10:00:60Z", " 2026-07-28", "2026-07-28\n", "\u0662026-07-28"),
        *(
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "99999-01-01",
            "-2026-01-01",
            "2026-07-28T10:00:00[Asia/Hanoi]",
        ),
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    assert effect({"date_window": {"field": "d", "days_back": 30}}, {"d": text}) == UNDECIDED


@pytest.mark.parametrize(
    ("window", "text", "expected"),
    [
        ({"days_back": 30}, "2026-06-28", FINE),
        ({"days_back": 30}, "2026-06-27", FOUND),
        ({"days_back": 30}, "2026-06-28T00:00:00Z", FINE),
        ({"days_back": 30}, "2026-06-28T00:30:00+01:00", FOUND),
        ({"days_back": 30}, "2099-01-01", FINE),
        ({"days_ahead": 7}, "2026-08-04T23:59:59Z", FINE),
        ({"days_ahead": 7}, "2026-08-05", FOUND),
        ({"days_ahead": 7}, "1999-01-01", FINE),
        ({"days_ahead": 0, "days_back": 0}, "2026-07-28", FINE),
        ({"days_ahead": 0, "days_back": 0}, "2026-07-29", FOUND),
        ({"days_ahead": 0, "days_back": 0}, "2026-07-27", FOUND),
    ],
)
def test_a_window_counts_whole_days_from_today(window: dict[str, Any], text: str, expected: str) -> None:
    assert effect({"date_window": {"field": "d"} | window}, {"d": text}) == expected


@pytest.mark.parametrize("value", [1785240000, 1785240000.5, True, {}, [20260728]])
def test_a_number_is_no_date(value: Any) -> None:
    assert effect({"date_window": {"field": "d", "days_back": 30}}, {"d": value}) == UNDECIDED


@given(st.datetimes(timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))))
def test_every_time_is_on_the_day_that_it_is_in_utc(moment: datetime) -> None:
    try:
        expected: date | None = moment.astimezone(UTC).date()
    except OverflowError:
        expected = None
    try:
        assert day_of(moment.isoformat()) == expected
    except ValueError:
        assert expected is None


# ---- counts


@pytest.mark.parametrize(
    ("session", "expected"),
    [({"tool_calls": 2}, FINE), ({"tool_calls": 3}, FOUND), ({}, UNDECIDED), ({"tool_calls": "2"}, UNDECIDED)],
)
def test_a_session_may_call_so_often(session: Any, expected: str) -> None:
    assert effect({"max_per_session": 3}, {}, session=session) == expected


def test_a_tool_may_be_forbidden_to_sessions_altogether() -> None:
    assert effect({"max_per_session": 0}, {}, session={"tool_calls": 0}) == FOUND


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"depth": 2}, FINE),
        ({"depth": 3}, FOUND),
        ({}, UNDECIDED),
        ({"depth": -1}, UNDECIDED),
        ({"depth": True}, UNDECIDED),
    ],
)
def test_a_chain_may_be_so_deep(session: Any, expected: str) -> None:
    assert effect({"max_chain_depth": 2}, {}, session=session) == expected
