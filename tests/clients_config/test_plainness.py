"""What may be shown of a configuration: in doubt nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.clients import plainness
from bascule.clients.adoption import HIDDEN, masked

HEX = st.text("0123456789abcdef", min_size=24, max_size=48).filter(lambda text: sum(map(str.isdigit, text)) > 3)
SECRETS = st.one_of(
    HEX,
    HEX.map(lambda text: f"sk-{text}"),
    st.text("abcdefghijKLMNOP0123456789", min_size=20, max_size=40).filter(
        lambda text: any(map(str.isdigit, text)) and any(map(str.islower, text)) and any(map(str.isupper, text))
    ),
)
PLACES = [
    "{}",
    "--api-key={}",
    "API_KEY={}",
    "Authorization: Bearer {}",
    "https://user:{}@example.com/mcp",
    "https://example.com/mcp?key={}&debug=true",
    "https://example.com/hooks/{}/sse",
    "postgres://{}@db.example.com:5432/app",
    "/srv/{}/x",
    "prefix.{}",
    "{},{}",
    "X-Anything: {}",
]


def shown(text: str, before: str = "") -> str:
    return masked(text, lambda said: plainness.of_argument(said, before))


@settings(max_examples=150, deadline=None)
@given(SECRETS, st.sampled_from(PLACES), st.sampled_from(["", "-e", "--header", "-H", "-c", "--token", "--url", "x"]))
def test_a_secret_is_hidden_wherever_it_stands(secret: str, place: str, before: str) -> None:
    text = place.replace("{}", secret)
    for said in (
        shown(text, before),
        masked(text, lambda said: plainness.of_variable("ANY", said)),
        masked(text, lambda said: plainness.of_header("X-Any", said)),
        masked(text, plainness.of_shell),
        masked(text, plainness.of_url),
    ):
        assert secret not in said
        assert HIDDEN in said


@pytest.mark.parametrize(
    ("before", "text", "said"),
    [
        ("", "-y", None),
        ("", "--read-only", None),
        ("", "--readOnly", None),
        ("-y", "@modelcontextprotocol/server-filesystem", None),
        ("-y", "@upstash/context7-mcp@latest", None),
        ("", "mcp-server-git", None),
        ("", "mcp-server-time==2026.1.14", None),
        ("--rm", "registry.example/github-mcp-server:latest", None),
        ("", "/home/me/My Documents", None),
        ("", r"C:\Users\me\server.js", None),
        ("--port", "8080", None),
        ("", "https://mcp.example.com/v1/mcp", None),
        ("", "https://example.com/mcp?verbose=true&limit=10", None),
        ("--local-timezone", "Europe", None),
        ("-e", "LOG_LEVEL=debug", None),
        ("-e", "GITHUB_TOKEN", None),
        ("-e", "GITHUB_TOKEN=hunter", "GITHUB_TOKEN=***"),
        ("--password", "hunter", "***"),
        ("--password", "correct horse", "***"),
        ("", "--password=hunter", "--password=***"),
        ("--header", "Authorization: Bearer x", "Authorization: Bearer ***"),
        ("--header", "X-Key: x", "X-Key: ***"),
        ("", "hunter2 and more", "***"),
        ("", "-psecret", "***"),
        ("", "Hunter2", "***"),
        ("", "ghp_abcdef", "***"),
        ("", "https://u@example.com/", "https://***@example.com/"),
        ("-c", "export K='a b'; npx -y foo --pass bar", "export K=***; npx -y foo --pass ***"),
        ("-c", "TOKEN='a b' npx foo | tee /tmp/x", "TOKEN=*** npx foo | tee /tmp/x"),
        ("-c", 'curl -H "X-Key: z" http://h/x?k=v', 'curl -H "X-Key: ***" http://h/x?k=***'),
        ("", "${env:TOKEN}", None),
        ("", "Bearer${TOKEN:-hunter}", "***"),
    ],
)
def test_arguments_are_read_as_people_write_them(before: str, text: str, said: str | None) -> None:
    assert shown(text, before) == (text if said is None else said)


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("LOG_LEVEL", "info", True),
        ("DEBUG", "true", True),
        ("PORT", "3000", True),
        ("DATA_DIR", "/srv/data", True),
        ("AWS_REGION", "eu-west-1", True),
        ("NODE_ENV", "production", True),
        ("PIN", "1234", False),
        ("DB_PASSWORD", "info", True),  # which a dictionary would have
        ("DB_PASSWORD", "hunter", False),
        ("WHATEVER", "hunter", False),
        ("DATA_DIR", "/srv/9f8e7d6c5b4a39f8e7d6c5b4a3", False),
        ("REGION", "eyJhbGciOiJIUzI1NiJ9", False),
    ],
)
def test_variables_are_plain_when_they_are_known_to_be(name: str, value: str, plain: bool) -> None:
    assert plainness.is_plain(name, value) is plain
