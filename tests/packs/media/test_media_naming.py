"""What an image that was made is called: always one name in one folder, that ends as its format does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.packs import paths
from bascule.packs.media import naming
from bascule.packs.pack import ToolFailed

RULES = st.lists(
    st.sampled_from(
        ["{stem}", "{width}", "{ext}", "{format}", ".", "..", "/", "a", "{", "}", "{x}", "jpg", ".jpg", "\0"]
    ),
    max_size=6,
).map("".join)


@given(RULES, st.sampled_from(["jpeg", "png", "webp", "gif"]), st.sampled_from(["a.png", "in/a.b.png", "in/.x", "x"]))
def test_a_rule_makes_one_name_or_is_refused(rule: str, format: str, source: str) -> None:
    try:
        path = naming.named(rule, source, None, width=8, height=6, format=format)
    except ToolFailed:
        return
    above, _, name = path.rpartition("/")
    assert above == source.rpartition("/")[0]
    assert paths.is_name(name)
    assert naming.format_of(name) == format


@pytest.mark.parametrize(
    ("rule", "folder", "path"),
    [
        ("{stem}_small_{width}.{ext}", None, "in/a_small_8.jpg"),
        ("{stem}_{width}x{height}.{ext}", ".", "a_8x6.jpg"),
        ("{format}.JPEG", "web/small", "web/small/jpeg.JPEG"),
    ],
)
def test_it_stands_beside_its_source_or_in_a_folder(rule: str, folder: str | None, path: str) -> None:
    assert naming.named(rule, "in/a.png", folder, width=8, height=6, format="jpeg") == path


def test_what_a_source_is_called_is_no_rule() -> None:
    assert naming.named("{stem}.{ext}", "{width}.png", None, width=8, height=6, format="png") == "{width}.png"
