"""RFC 6570 templates of servers against URIs of clients: what they expand to matches, quickly."""

import time
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.registry.catalog import Template
from fuzz.mangling import mangled

LITERALS: Final = st.text("abc/:.-", max_size=5)
SEGMENT: Final = st.text("abc123-_.%~", min_size=1, max_size=6)
GOOD: Final = ["test://{a}/x", "{+path}", "file:///{dir}/{name}.txt", "{/a*}", "{?q,r}{&s}", "{#f}", "{.e}{;p}"]
WORDS: Final = [
    "{",
    "}",
    "{}",
    "{+a}",
    "{a*}",
    "{a:3}",
    "{{",
    "}}",
    "*",
    "+",
    "{?a,b}",
    "{/a}{/b}",
    "é",
    "\x00",
    "{+a}" * 8,
]
templates = mangled(st.sampled_from(GOOD), WORDS, st.text(max_size=4))


@given(templates, st.text(max_size=60))
def test_any_template_meets_any_uri_in_peace(template: str, uri: str) -> None:
    assert Template(template).matches(uri) in (True, False)


@given(st.lists(st.tuples(LITERALS, st.sampled_from(["{a}", "{+a}", "{/a}", "{#a}"]), SEGMENT), max_size=4), LITERALS)
def test_what_a_template_expands_to_matches_it(parts: list[tuple[str, str, str]], end: str) -> None:
    template = "".join(literal + expression for literal, expression, _ in parts) + end
    signs = {"{a}": "", "{+a}": "", "{/a}": "/", "{#a}": "#"}
    uri = "".join(literal + signs[expression] + value for literal, expression, value in parts) + end
    assert Template(template).matches(uri)


@settings(deadline=None)
@given(
    st.sampled_from(["{+a}", "{a*}", "{a}", "{/a}", "{?a}", "x{+a}"]), st.integers(1, 40), st.text("ax/?", max_size=3)
)
def test_no_template_takes_long_to_say_no(expression: str, times: int, unit: str) -> None:
    uri = ((unit or "a") * 4000)[:4000] + "!"
    began_s = time.process_time()  # of this process alone: others may keep the machine busy
    Template(expression * times + "$").matches(uri)
    assert time.process_time() - began_s < 1
