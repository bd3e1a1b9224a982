"""Who may knock, and with what: headers only, before a body is read (cases "B…" and "I…" of docs/security.md)."""

import pytest

from bascule.edge import door
from bascule.edge.door import Door, Refused, Rules

RULES = Rules(
    hosts=door.LOOPBACK | {"gw.example"},
    origins=frozenset({"https://console.example"}),
    loopback_origins=True,
    max_body_bytes=4 * 1024 * 1024,
)
REMOTE = Rules(hosts=frozenset({"gw.example"}), origins=frozenset(), loopback_origins=False, max_body_bytes=10)
JSON = (b"content-type", b"application/json")
ACCEPT = (b"accept", b"application/json, text/event-stream")
HOST = (b"host", b"localhost:8777")


def refusal(rules: Rules, *raw: tuple[bytes, bytes], method: str = "POST") -> int:
    """The HTTP status that the door answers with; 200 if it opens."""
    try:
        Door(rules).admit(method, raw)
    except Refused as refused:
        return refused.status
    return 200


def test_an_ordinary_post_comes_in_with_its_headers() -> None:
    head = Door(RULES).admit("POST", [HOST, JSON, ACCEPT, (b"content-length", b"2"), (b"mcp-method", b" ping\t")])
    assert head["mcp-method"] == "ping"
    assert head["host"] == "localhost:8777"


# ---- host


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"evil.com", 421),
        (b"localhost.evil.com", 421),
        (b"evil.com:80", 421),
        (b"localhost@evil.com", 421),
        (b"evil.com#localhost", 421),
        (b"localhost:", 421),
        (b"localhost:80:80", 421),
        (b"localhost:8o", 421),
        (b"localhost:+80", 421),
        ("localhost:\u0663".encode(), 421),
        (b"[::1", 421),
        (b"[::1]:x", 421),
        (b"[::1]evil.com", 421),
        (b"::1", 421),
        (b"localhost, evil.com", 421),
        (b"", 400),
        (b"  ", 400),
        (b"LocalHost:1", 200),
        (b"127.0.0.1", 200),
        (b"[::1]", 200),
        (b"[::1]:8777", 200),
        (b"gw.example", 200),
    ],
)
def test_only_hosts_that_are_served_here_are_let_in(host: bytes, status: int) -> None:  # B01
    assert refusal(RULES, (b"host", host), JSON, ACCEPT) == status


def test_a_request_without_a_host_is_refused() -> None:  # B02
    assert refusal(RULES, JSON, ACCEPT) == 400


def test_hosts_of_another_machine_do_not_include_this_one() -> None:
    assert refusal(REMOTE, HOST, JSON, ACCEPT) == 421


# ---- origin


@pytest.mark.parametrize(
    "origin",
    [
        b"http://evil.com",
        b"null",
        b"",
        b"http://localhost.evil.com",
        b"http://localhost:80@evil",
        b"http://localhost#@evil.com",
        b"http://localhost/",
        b"http://localhost\\@evil",
        b"http://localhost?evil",
        b"http://",
        b"localhost",
        b"//localhost",
        b"file://localhost",
        b"chrome-extension://localhost",
        b"http://127.0.0.1.evil.com",
        b"http://[::1].evil",
        b"https://console.example:444",
        b"https://console.example.evil",
        b"http://console.example",
    ],
)
def test_pages_from_elsewhere_may_not_call(origin: bytes) -> None:  # B04, B05, B07
    assert refusal(RULES, HOST, JSON, ACCEPT, (b"origin", origin)) == 403


@pytest.mark.parametrize(
    "origin",
    [b"http://localhost:3000", b"https://127.0.0.1", b"http://[::1]:5", b"https://console.example"],
)
def test_pages_of_this_machine_and_those_that_are_listed_may_call(origin: bytes) -> None:
    assert refusal(RULES, HOST, JSON, ACCEPT, (b"origin", origin)) == 200


def test_pages_of_this_machine_may_not_call_a_gateway_for_others() -> None:
    raw = ((b"host", b"gw.example"), JSON, ACCEPT)
    assert refusal(REMOTE, *raw) == 200
    assert refusal(REMOTE, *raw, (b"origin", b"http://localhost:3000")) == 403


def test_a_page_learns_only_of_its_own_origin() -> None:
    assert dict(door.cors("http://localhost:1"))[b"access-control-allow-origin"] == b"http://localhost:1"
    assert dict(door.preflight("http://localhost:1", "x-a"))[b"access-control-allow-headers"] == b"x-a"


# ---- media types


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (b"text/plain", 415),
        (b"application/jsonp", 415),
        (b"application/json-patch+json", 415),
        (b"", 415),
        (b"application/json; charset=utf-16", 415),
        (b"application/json; charset=latin-1", 415),
        (b"multipart/form-data; boundary=application/json", 415),
        (b"application/json", 200),
        (b"Application/JSON ; Charset=UTF-8", 200),
        (b'application/json;charset="utf-8"', 200),
    ],
)
def test_a_body_is_json_in_utf8(kind: bytes, status: int) -> None:  # B25
    assert refusal(RULES, HOST, ACCEPT, (b"content-type", kind)) == status


def test_a_body_without_a_content_type_is_refused() -> None:  # B25
    assert refusal(RULES, HOST, ACCEPT) == 415


@pytest.mark.parametrize(
    ("encoding", "status"), [(b"gzip", 415), (b"br", 415), (b"gzip, identity", 415), (b"identity", 200)]
)
def test_compressed_bodies_are_refused(encoding: bytes, status: int) -> None:  # B26
    assert refusal(RULES, HOST, JSON, ACCEPT, (b"content-encoding", encoding)) == status


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (b"application/json", 406),
        (b"text/event-stream", 406),
        (b"text/html", 406),
        (b"", 406),
        (b"application/jsonp, text/event-stream", 406),
        (b"application/json, text/event-streams", 406),
        (b"application/json, text/event-stream;q=0", 406),
        (b"application/json;q=0.0, */*", 406),
        (b"*/*, text/event-stream; q=0", 406),
        (b"*/*;q=0", 406),
        (b"application/json, text/event-stream", 200),
        (b"text/event-stream,application/json", 200),
        (b"Application/JSON, Text/Event-Stream", 200),
        (b"application/json;q=0.5, text/event-stream;q=0.05", 200),
        (b"*/*", 200),
        (b"application/*, text/*", 200),
        (b"*/*;q=0, application/json, text/event-stream", 200),
    ],
)
def test_a_client_takes_both_json_and_events(accept: bytes, status: int) -> None:
    assert refusal(RULES, HOST, JSON, (b"accept", accept)) == status


def test_a_client_that_says_nothing_takes_everything() -> None:
    assert refusal(RULES, HOST, JSON) == 200


def test_media_types_may_come_in_two_headers() -> None:  # RFC 9110, 5.3
    assert refusal(RULES, HOST, JSON, (b"accept", b"application/json"), (b"accept", b"text/event-stream")) == 200


def test_a_get_needs_no_media_types() -> None:
    assert refusal(RULES, HOST, method="GET") == 200


# ---- length


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"+5", 400),
        (b"1_000", 400),
        ("\u0663".encode(), 400),
        (b"0x10", 400),
        (b"-1", 400),
        (b"", 400),
        (b"5, 5", 400),
        (b"5.0", 400),
        (b"4194305", 413),
        (b"9" * 5000, 413),
        (b"4194304", 200),
        (b"0", 200),
    ],
)
def test_a_length_is_ascii_digits_within_the_bound(length: bytes, status: int) -> None:  # B22, B28
    assert refusal(RULES, HOST, JSON, ACCEPT, (b"content-length", length)) == status


def test_two_lengths_that_differ_are_refused() -> None:  # B23
    assert refusal(RULES, HOST, JSON, ACCEPT, (b"content-length", b"2"), (b"content-length", b"3")) == 400


# ---- headers that stand twice


@pytest.mark.parametrize(
    "name",
    [
        *(b"host", b"origin", b"authorization", b"content-type", b"mcp-protocol-version", b"mcp-method"),
        *(b"mcp-name", b"mcp-session-id", b"last-event-id", b"mcp-param-region"),
    ],
)
@pytest.mark.parametrize("values", [(b"a", b"b"), (b"a", b"a")])
def test_a_header_whose_first_and_last_reader_would_differ_stands_once(
    name: bytes, values: tuple[bytes, bytes]
) -> None:
    with pytest.raises(Refused, match="stands twice") as refused:
        door.read_head([(name, value) for value in values])
    assert refused.value.status == 400


def test_other_headers_that_stand_twice_are_one_list() -> None:
    assert door.read_head([(b"x", b"1"), (b"y", b"2"), (b"x", b" 3")]) == {"x": "1, 3", "y": "2"}


def test_an_underscore_twin_is_another_header() -> None:  # B19
    assert door.read_head([(b"mcp_name", b"evil"), (b"mcp-name", b"good")])["mcp-name"] == "good"


# ---- memory


def test_what_the_door_remembers_changes_no_verdict() -> None:
    guarded = Door(REMOTE)
    good = [(b"host", b"gw.example"), JSON, ACCEPT]
    for _ in range(3):
        assert guarded.admit("POST", good)["host"] == "gw.example"
        with pytest.raises(Refused, match="larger"):
            guarded.admit("POST", [*good, (b"content-length", b"11")])
        with pytest.raises(Refused, match="Accept"):
            guarded.admit("POST", [*good[:-1], (b"accept", b"text/html")])
        with pytest.raises(Refused, match="Content-Type"):
            guarded.admit("POST", [good[0], *good[2:]])


def test_a_get_that_came_in_is_no_leave_for_a_post() -> None:
    guarded = Door(RULES)
    guarded.admit("GET", [HOST])
    with pytest.raises(Refused):
        guarded.admit("POST", [HOST])


def test_memory_is_bounded() -> None:
    guarded = Door(RULES)
    for i in range(2000):
        guarded.admit("GET", [HOST, (b"x", b"%d" % i)])
    guarded.admit("GET", [HOST, (b"y", b"x" * 100_000)])
    assert len(guarded._admitted) <= 512
    assert all(len(value) < 5000 for *_, raw in guarded._admitted for _, value in raw)


def test_a_post_that_is_answered_elsewhere_may_accept_anything() -> None:
    guarded = Door(RULES)
    for accept in ((), ((b"accept", b"text/html"),), ((b"accept", b""),)):
        assert guarded.admit("POST", [HOST, JSON, *accept], answered=False)
    for _ in range(2):  # also once it is remembered
        with pytest.raises(Refused) as refused:
            guarded.admit("POST", [HOST, JSON, (b"accept", b"text/html")])
        assert refused.value.status == 406
    with pytest.raises(Refused) as refused:
        guarded.admit("POST", [HOST], answered=False)
    assert refused.value.status == 415
