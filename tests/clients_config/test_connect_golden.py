"""What `bascule connect` prints and writes for each client, word by word: golden/CLIENT-WAY.*

`.snippet` is what it prints, `.fresh` a new file, `.after` the file golden/CLIENT.before with Bascule in it.
"""

import base64
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from clients_config.place import FILES, Place

GOLDEN = Path(__file__).parent / "golden"
OPEN = "servers: {}\n"  # a gateway for everybody on this machine
KEYED = "callers:\n  NAME: {scopes: ['*']}\n"
WAYS = {"open": (OPEN, []), "bridge": (KEYED, ["--bridge"]), "http": (KEYED, ["--http"])}
CASES = [
    (client, way)
    for client in FILES
    for way in WAYS
    if not (way == "http" and client in ("claude-desktop", "zed"))  # these cannot
]


def outcome(place: Place, client: str, way: str) -> dict[str, str]:
    """Each text that comes of it, by the end of its golden file's name."""
    configuration, options = WAYS[way]
    place.yaml.write_text(configuration.replace("NAME", client))
    printed = place("connect", client, *options)
    assert printed.code == 0, printed.err
    file = place.home / FILES[client]
    assert not file.exists()
    assert place("connect", client, "--write", *options).code == 0
    fresh = file.read_text()
    before = (GOLDEN / f"{client}.before").read_text()
    file.write_text(before)
    written = place("connect", client, "--write", *options)
    assert written.code == 0, written.err
    after = file.read_text()
    assert place("connect", client, "--undo").err.endswith("is as it was, to the byte\n")
    assert file.read_text() == before
    return {
        "snippet": place.named(printed.out + opened(printed.err)),
        "fresh": place.named(fresh),
        "after": place.named(after),
        "said": cut(place.named(written.err).partition("; as it was")[0] + "\n"),
    }


def cut(said: str) -> str:
    """*said* with its cut lines cut where no path of this machine stands yet: those are of any length."""
    return re.sub(r"^(.{140}).*…$", r"\1…", said, flags=re.MULTILINE)


def opened(said: str) -> str:
    """*said* with what stands in a link as it is before it is encoded."""

    def of_cursor(found: re.Match[str]) -> str:
        return f"cursor link {found[1]}: {base64.b64decode(unquote(found[2])).decode()}"

    said = re.sub(r"cursor://anysphere\.cursor-deeplink/mcp/install\?name=(\w+)&config=(\S+)", of_cursor, said)
    return re.sub(r"vscode:mcp/install\?(\S+)", lambda found: f"vscode link: {unquote(found[1])}", said)


@pytest.mark.parametrize(("client", "way"), CASES)
def test_each_client_gets_what_it_understands(client: str, way: str, place: Place) -> None:
    for name, text in outcome(place, client, way).items():
        assert text == (GOLDEN / f"{client}-{way}.{name}").read_text(), name


@pytest.mark.parametrize(("client", "why"), [("claude-desktop", "starts commands"), ("zed", "as they stand")])
def test_a_client_that_cannot_send_a_key_by_itself_says_so(client: str, why: str, place: Place) -> None:
    place.yaml.write_text(KEYED.replace("NAME", client))
    done = place("connect", client, "--http")
    assert (done.code, done.out) == (2, "")
    assert why in done.err
