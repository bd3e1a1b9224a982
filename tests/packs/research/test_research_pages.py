"""Pages as text, the reading of encodings, and papers by their words: the pure core of research."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.errors import ConfigInvalid
from bascule.packs import catalog
from bascule.packs.research import pages, readers
from bascule.packs.research.catalogue import Paper, SamplePaper, _at, ranked, sample

markup = st.text(alphabet="<>/!-abcdivp =\"'hidenstyl&;#x&\n", max_size=200)


@given(st.one_of(st.text(max_size=200), markup))
def test_any_text_is_a_page(text: str) -> None:
    title, found = pages.page(text)
    assert found == found.strip()
    assert len(title) <= 300


@given(st.text(max_size=200))
def test_what_is_plain_stays_plain(text: str) -> None:
    found = pages.plain(text)
    assert pages.plain(found) == found
    assert not {"\x1b", "\u200b", "\u202e", "\U000e0041", "\x00", "\r"} & set(found)
    assert pages.tidy(pages.tidy(text)) == pages.tidy(text)


@given(st.from_regex(r"[a-z]{1,10}( [a-z]{1,10}){0,5}", fullmatch=True))
def test_what_a_reader_sees_is_there_and_what_he_does_not_is_not(text: str) -> None:
    hidden = f"<p>{text}</p><script>SECRET</script><div hidden><p>SECRET</p></div><!-- SECRET -->"
    assert pages.page(hidden) == ("", text)


@pytest.mark.parametrize(
    "start",
    [
        *("<script>", "<style>", "<template>", "<noscript>", "<svg><text>", "<p hidden>", "<p HIDDEN=''>"),
        *('<p aria-hidden="true">', '<p style="display:none">', '<p style="color:red; DISPLAY : none !important">'),
        *(
            '<p style="visibility:hidden">',
            '<p style="font-size:0px">',
            '<p style="opacity: 0.0;">',
            "<select><option>",
        ),
        *("<div hidden><div></div>", "<div hidden></p>", "<iframe>", "<!--", "<object>"),
    ],
)
def test_what_is_hidden_is_left_out(start: str) -> None:
    assert "ORDER" not in pages.page(f"<p>seen</p>{start}ORDER")[1]


@pytest.mark.parametrize("style", ["opacity:0.9", "font-size:0.8em", "display:block", "font-size:10px", "opacity:1"])
def test_what_is_only_small_or_pale_is_seen(style: str) -> None:
    assert pages.page(f'<p style="{style}">seen') == ("", "seen")


def test_what_is_open_within_what_is_hidden_ends_with_it() -> None:
    assert pages.page("<div hidden><p>no<b>no</div><p>yes</p></div>yes") == ("", "yes\n\nyes")


def test_a_table_and_headings_keep_their_shape() -> None:
    text = "<h2>Sales</h2><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>"
    assert pages.page(text)[1] == "## Sales\n\na b\n\n1 2"


@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_bytes_are_read_in_some_encoding(content: bytes, charset: str) -> None:
    for read in (readers.html, readers.text):
        piece = read(io.BytesIO(content), charset=charset, offset=0, max_chars=100)
        assert len(piece["text"]) <= 100
        piece["text"].encode()  # holds no half of a character


@given(st.integers(0, 50), st.integers(1, 50))
def test_a_piece_is_a_part_of_the_whole(offset: int, most: int) -> None:
    whole = "abcdefghij" * 4
    piece = readers.text(io.BytesIO(whole.encode()), charset="", offset=offset, max_chars=most)
    assert (piece["text"], piece["total_chars"]) == (whole[offset : offset + most], 40)


# ---- papers


def test_every_paper_of_the_sample_says_that_it_is_one() -> None:
    assert len(sample()) == 12
    for id, each in sample().items():
        assert id == each.paper.id
        assert id.startswith("sample:")
        assert each.paper.sample
        assert "does not exist" in each.text
        assert each.paper.url.startswith("https://papers.bascule.test/")
    assert len({each.paper.url for each in sample().values()}) == 12


@given(st.text(max_size=60))
def test_any_query_is_answered_with_papers_that_hold_a_word_of_it(query: str) -> None:
    for order in ("relevance", "newest"):
        found = ranked(query, sample().values(), order)
        assert len({each.id for each in found}) == len(found)


def test_a_title_counts_more_than_an_abstract() -> None:
    papers = [
        SamplePaper(Paper("1", "bridges", abstract="of stone"), ""),
        SamplePaper(Paper("2", "stone", abstract="bridges"), ""),
    ]
    assert [each.id for each in ranked("bridges", papers, "relevance")] == ["1", "2"]


@pytest.mark.parametrize(
    ("said", "path", "found"),
    [
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": [{"b": 1}, {"c": 2}, 3]}, "a[].b", [1]),
        ({"a": [1, 2]}, "a", [1, 2]),
        ({"a": [[1], [2]]}, "a[]", [[1], [2]]),
        ({}, "a.b[].c", []),
        ([], "a", []),
        (None, "a", []),
    ],
)
def test_a_path_leads_to_values_or_to_nothing(said: object, path: str, found: list[object]) -> None:
    assert _at(said, path) == found


# ---- settings


@pytest.mark.parametrize(
    ("pack", "settings", "said"),
    [
        ("research", {"allowed_hosts": ["https://a.test"]}, "is not a host"),
        ("research", {"allowed_hosts": ["metadata.google.internal"]}, "is not a host"),
        ("research", {"max_bytes": 17 * 1024 * 1024}, "more than"),
        ("research", {"redirects": 6}, "<= 5"),
        ("research", {"timeout_s": 0}, "> 0"),
        ("research", {"catalogue": {"url": "http://a.test/works"}}, "not https"),
        ("research", {"catalogue": {"url": "https://a.test/works?x=1"}}, "query"),
        ("research", {"catalogue": {"url": "https://u:p@a.test/works"}}, "credentials"),
        ("finance", {"provider": {"url": "http://a.test/v1"}}, "not https"),
        ("finance", {"provider": {"url": "https://a.test/v1?x=1"}}, "query"),
        ("finance", {"provider": {"url": "https://a.test", "price": "p/{tikcer}"}}, "no {tikcer}"),
        ("finance", {"provider": {"url": "https://a.test", "price": "../{ticker}"}}, "not a path below"),
        ("finance", {"provider": {"url": "https://a.test", "price": "//b.test/{ticker}"}}, "not a path below"),
        ("finance", {"max_order_share": 1.5}, "<= 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_with_their_place(
    pack: str, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigInvalid, match=said) as caught:
        catalog.options_of(pack, settings)
    assert "settings" in str(caught.value) or "settings" in str(vars(caught.value))


@pytest.mark.parametrize(
    ("pack", "settings", "network"),
    [
        ("research", {}, (53, 443)),
        ("research", {"web": False}, "none"),
        ("research", {"allowed_hosts": ["127.0.0.1:8001", "docs.example.com"]}, (53, 80, 443, 8001)),
        ("research", {"web": False, "catalogue": {"url": "https://a.test:8443/works"}}, (53, 8443)),
        ("finance", {}, "none"),
        ("finance", {"provider": {"url": "https://a.test:8443"}}, (53, 8443)),
    ],
)
def test_a_process_reaches_the_ports_that_its_settings_need(
    pack: str, settings: dict[str, object], network: object
) -> None:
    assert catalog.options_of(pack, settings).sandbox().network == network
