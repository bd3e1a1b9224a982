"""Where the cases of group L are tried: the office pack behind Bascule, over a folder with one file, which is a bomb.

Bombs are built when they are needed and gone afterwards; none of them is kept anywhere.
"""

import asyncio
import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from gateway import Bascule, Json, gateway

from corpus import cases
from corpus.cases import Shape
from packs.office import building

MIB: Final = 1 << 20
_SHEET: Final = "xl/worksheets/sheet1.xml"
_S: Final = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_W: Final = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


class Expected(Shape, frozen=True):
    """The one outcome: a refusal that *says* this, or a result with these members."""

    says: str = ""
    result: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if bool(self.says) == (self.result is not None):
            raise ValueError("an outcome is a refusal or a result")


class Case(Shape, frozen=True):
    """A file that *build* makes, with these values, and what a *tool* is to say of it."""

    id: str
    title: str
    why: str
    file: str
    build: str
    expect: Expected
    values: Mapping[str, Any] = msgspec.field(default_factory=dict, name="with")
    tool: str = "document__extract_text"
    arguments: Mapping[str, Any] = msgspec.field(default_factory=dict)
    within_s: float = 5.0


def read(name: str) -> Sequence[Case]:
    """The cases of one file. Raises ValueError if it says anything that no case can say."""
    return cases.told(name, Case)


class Ground:
    """A Bascule with the office pack, and the folder of its documents."""

    def __init__(self, bascule: Bascule, folder: Path) -> None:
        self.bascule = bascule
        self.folder = folder

    @contextmanager
    def laid(self, case: Case) -> Iterator[None]:
        """The bomb of *case* in the folder, and no longer."""
        path = self.folder / case.file
        made = BUILDERS[case.build](**case.values)
        if isinstance(made, int):
            with path.open("wb") as file:
                file.truncate(made)  # a file of so many zeros takes no room
        else:
            path.write_bytes(made)
        try:
            yield
        finally:
            path.unlink()

    async def ask(self, case: Case) -> Json:
        """What the tool says of the file."""
        params = {"name": case.tool, "arguments": {"path": case.file, **case.arguments}}
        answer: Json = await self.bascule.modern().ask("tools/call", params)
        result: Json = answer["result"]
        return result

    async def good(self) -> bool:
        """Whether an ordinary document is still read."""
        path = self.folder / "good.txt"
        path.write_text("All is well here.")
        params = {"name": "document__extract_text", "arguments": {"path": "good.txt"}}
        answer = await self.bascule.modern().ask("tools/call", params)
        path.unlink()
        found: str = answer["result"]["structuredContent"]["parts"][0]["text"]
        return found == "All is well here."

    async def pids(self) -> list[int]:
        found: list[int] = (await self.bascule.server("office"))["pids"]
        return found

    async def alone(self) -> bool:
        """Whether nothing that the pack has started is left; what is being taken away is waited for."""
        async with asyncio.timeout(5):
            while any(_children(pid) for pid in await self.pids()):  # noqa: ASYNC110 - a process table has no event
                await asyncio.sleep(0.05)
        return True


def _children(pid: int) -> list[int]:
    """The readers below a process; launchers of its walls are none."""
    try:
        own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []  # it has ended
    readers = [child for child in own if b"bascule.packs.cell" in _command(child)]
    return readers + [each for child in own for each in _children(child)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it is gone


def rss_bytes(pid: int | str = "self") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024


@asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    servers = {"office": {"pack": "office", "sandbox": "required", "settings": {"root": str(folder)}}}
    rules = {"rules": [{"match": "*", "rate_limit": "100000/minute"}]}
    async with gateway(servers, policy=rules) as bascule:
        await bascule.up("office")
        yield Ground(bascule, folder)


# ---- bombs


def _nested(levels: int, width: int) -> bytes:
    """ZIPs in ZIPs, as 42.zip has them: each level *width* times the one below it."""
    content = _zeros(MIB)
    for _ in range(levels):
        content = building.package({f"{at}.zip": content for at in range(width)})
    return content


def _nested_within(kind: str) -> bytes:
    """A good document with such a thing beside it."""
    return _with_part(building.docx("All is well."), {"word/embeddings/a.zip": _nested(4, 8)}) if kind else b""


def _zeros(size: int) -> bytes:
    return building.package({"zeros": b"\0" * size})


def _swollen(part: str, mib: int, said: int | None = None) -> bytes:
    """A package with a *part* of so many MiB of spaces, which its directory says, or *said* instead."""
    stream = _spaces(mib)
    size = mib * MIB if said is None else said
    name = part.encode()
    extra = struct.pack("<HHQQ", 1, 16, size, len(stream))
    large = 0xFFFFFFFF
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0, 8, 0, 0, 0, large, large, len(name), len(extra))
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\x01\x02", 45, 45, 0, 8, 0, 0, 0, large, large, len(name), len(extra), 0, 0, 0, 0, 0
    )
    body = local + name + extra + stream
    directory = entry + name + extra
    return body + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), len(body), 0)


def _spaces(mib: int) -> bytes:
    """So many MiB of spaces, deflated: one block for each, which stands for itself, and an empty last one."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (pack.compress(b" " * MIB) + pack.flush(zlib.Z_FULL_FLUSH)) * mib + b"\x03\x00"


def _many_parts(count: int) -> bytes:
    return building.package({"word/document.xml": "<a/>", **{f"word/{at}.xml": "<a/>" for at in range(count)}})


def _overlapping(count: int, mib: int) -> bytes:
    """Many entries of a directory for one and the same stream."""
    whole = _swollen("word/document.xml", mib)
    start = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    entry = whole[start:end]
    entries = entry + b"".join(entry.replace(b"document.xml", f"docume{at:02d}.xml".encode()) for at in range(count))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count + 1, count + 1, len(entries), start, 0)
    return whole[:start] + entries + tail


def _xml(part: str, xml: str, encoding: str = "utf-8") -> bytes:
    """A DOCX or an XLSX, which *part* is of, with this as the part."""
    good = building.docx("x") if part.startswith("word") else building.xlsx({"S": [["a", "b"], [1, 2]]})
    return _with_part(good, {part: xml.encode(encoding)})


def _laughs(part: str, kind: str, encoding: str = "utf-8") -> bytes:
    """A part whose document type says more than it is long, or asks for a file."""
    ten = "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10}">' for at in range(1, 10))
    declared = {
        "laughs": f'<!DOCTYPE a [<!ENTITY l0 "lol">{ten}]>',
        "external": '<!DOCTYPE a [<!ENTITY l9 SYSTEM "file:///etc/passwd">]>',
        "network": '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd" [<!ENTITY l9 "x">]>',
        "parameter": '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;<!ENTITY l9 "x">]>',
        "quadratic": f'<!DOCTYPE a [<!ENTITY l9 "{"x" * 50_000}">]>',
        "late": f'<!-- {" " * 200_000} --><!DOCTYPE a [<!ENTITY l9 "x">]>',
    }[kind]
    body = f"<w:document {_W}><w:body><w:p><w:r><w:t>{'&l9;' * (2_000 if kind == 'quadratic' else 1)}</w:t></w:r></w:p></w:body></w:document>"  # noqa: E501
    mark = f'<?xml version="1.0" encoding="{encoding.upper()}"?>' if encoding != "utf-8" else ""
    return _xml(part, mark + declared + body, encoding)


def _with_part(good: bytes, parts: Mapping[str, bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(good)) as package:
        before = {name: package.read(name) for name in package.namelist()}
    return building.package({**before, **parts})


def _sheet(rows: str = "", times: int = 1, dimension: str = "A1:B2") -> bytes:
    """An XLSX with these rows, so many times, and what it says of its size."""
    xml = f'<worksheet {_S}><dimension ref="{dimension}"/><sheetData>{rows * times}</sheetData></worksheet>'
    return _xml(_SHEET, xml)


def _paragraphs(count: int) -> bytes:
    return building.docx(
        document=f"<w:document {_W}><w:body>{'<w:p><w:r><w:t>x</w:t></w:r></w:p>' * count}</w:body></w:document>"
    )


def _deep(tag: str, depth: int, close: str = "") -> bytes:
    inside = f"<{tag}>" * depth + "<w:t>x</w:t>" + f"</{close or tag}>" * depth
    return building.docx(document=f"<w:document {_W}><w:body>{inside}</w:body></w:document>")


def _text(piece: str, times: int, head: str = "", tail: str = "") -> bytes:
    return (head + piece * times + tail).encode()


def _size(bytes: int) -> int:
    return bytes


# ---- PDF


def _pages_of(kids: str, count: int = 1) -> bytes:
    """A PDF whose tree of pages is this; `2 0 R` is its own root."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>"
    pages = f"<</Type/Pages/Count {count}/Kids[{kids}]>>".encode()
    return building.pdf_of([b"<</Type/Catalog/Pages 2 0 R>>", pages, page])


def _same_page(times: int) -> bytes:
    return _pages_of("3 0 R " * times, times)


def _many_pages(count: int) -> bytes:
    return building.raw_pdf([b""] * count)


def _chain(depth: int) -> bytes:
    """A tree of pages that is so deep."""
    nodes = [f"<</Type/Pages/Count 1/Kids[{at + 3} 0 R]>>".encode() for at in range(depth)]
    last = b"<</Type/Page/MediaBox[0 0 595 842]>>"
    return building.pdf_of([b"<</Type/Catalog/Pages 2 0 R>>", *nodes, last])


def _flate(mib: int, layers: int = 1) -> bytes:
    """A page whose content is so many MiB of spaces, packed so many times."""
    content = b"\x78\x9c" + _spaces(mib)
    for _ in range(layers - 1):
        content = zlib.compress(content, 9)
    return building.raw_pdf([content], f"/Filter[{'/FlateDecode' * layers}]")


def _operators(piece: str, times: int) -> bytes:
    return building.raw_pdf([piece.encode() * times])


def _objects(count: int) -> bytes:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>"
    first = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count 1/Kids[3 0 R]>>", page]
    return building.pdf_of([*first, *(b"<</Next %d 0 R>>" % at for at in range(5, count + 5))])


def _patched(old: str, new: str, times: int = 1) -> bytes:
    """A good PDF with this in place of that."""
    good = building.pdf(["All is well."])
    assert old.encode() in good
    return good.replace(old.encode(), new.encode() * times, 1)


def _looping_xref() -> bytes:
    good = building.pdf(["All is well."])
    start = int(good.rsplit(b"startxref\n", 1)[1].split()[0])
    return good.replace(b"/Root 1 0 R", b"/Prev %d/Root 1 0 R" % start)


def _endless_length() -> bytes:
    return building.pdf(["x"]).replace(b"<</Length ", b"<</Length 6 0 R/Was ", 2)


BUILDERS: Final[Mapping[str, Callable[..., bytes | int]]] = {
    "nested": _nested,
    "nested_within": _nested_within,
    "swollen": _swollen,
    "many_parts": _many_parts,
    "overlapping": _overlapping,
    "xml": _xml,
    "laughs": _laughs,
    "sheet": _sheet,
    "paragraphs": _paragraphs,
    "deep": _deep,
    "text": _text,
    "size": _size,
    "pages": _pages_of,
    "same_page": _same_page,
    "many_pages": _many_pages,
    "chain": _chain,
    "flate": _flate,
    "operators": _operators,
    "objects": _objects,
    "patched": _patched,
    "looping_xref": _looping_xref,
    "endless_length": _endless_length,
}
