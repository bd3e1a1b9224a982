"""Whether a document may follow the versions that a registry has of its thing, and what it would be there. PURE.

A version that left its draft never changes: a promise that changes under its own name is none. What is new has to fit
between its neighbours by SemVer (diff.py): the next lower version and the next higher one, so that an old major can
still be mended when a newer one is out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET

from bascule.contract.derive import Sources
from bascule.contract.diff import Change, Verdict, verdicts
from bascule.contract.model import Contract, Document
from bascule.contract.semver import parse
from bascule.wire.canonical import canonical

Outcome: TypeAlias = Literal["new", "new_version", "changed", "unchanged", "refused"]

MAX_BYTES: Final = 512 * 1024  # of a document in JSON


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What publishing a document would come to."""

    outcome: Outcome
    reason: str = ""  # why it is refused
    before: str = ""  # the version that it is compared with; "" when there is none
    changes: tuple[Change, ...] = ()  # since then
    warnings: tuple[str, ...] = ()


def digest_of(document: Document) -> str:
    """SHA-256, in hex, of what a document promises. Its status and its end are the registry's to say, and left out."""
    return hashlib.sha256(_spelt(document)).hexdigest()


def _spelt(document: Document) -> bytes:
    return canonical(msgspec.to_builtins(_bare(document)))


def _bare(document: Document) -> Document:
    return msgspec.structs.replace(document, status=UNSET, deprecation=UNSET)


def planned(document: Document, known: Sequence[Document], fixed: Sequence[Document] = ()) -> Planned:
    """What becomes of *document* among the versions of its thing: those *known* to the registry, each with its
    status, and the *fixed* ones of the configuration, which nobody can publish over."""
    if not isinstance(document.version, str):
        return _refused("it does not say which version it is: add `version`, such as 1.0.0")
    if unfit := _unfit(document):
        return _refused(unfit)
    if any(each.version == document.version for each in fixed):
        return _refused(f"{document.version} stands in the configuration, and what stands there holds: change it there")
    same = next((each for each in known if each.version == document.version), None)
    if same is not None and _spelt(same) == _spelt(document):
        return Planned(outcome="unchanged", before=document.version, warnings=tuple(_unheard(document, same)))
    if same is not None and same.status != "draft":
        return _refused(_settled(same, document))
    others = [each for each in (*known, *fixed) if each.version != document.version]
    return _among(document, others, is_draft=same is not None)


def _unfit(document: Document) -> str:
    """Why *document* cannot be kept, whatever it says; "" when it can be."""
    try:
        size = len(msgspec.json.encode(_bare(document)))
        canonical(msgspec.to_builtins(_bare(document)))
    except (ValueError, OverflowError, RecursionError) as error:
        return f"it cannot be written as JSON that everybody reads alike: {error}"
    return f"it is larger than {MAX_BYTES} bytes" if size > MAX_BYTES else ""


def _among(document: Document, others: Sequence[Document], *, is_draft: bool) -> Planned:
    lower, upper = _neighbours(document, others)
    for pair in ((lower, document), (document, upper)):
        verdict = _between(*pair)
        if verdict is not None and verdict.lie:
            return Planned(outcome="refused", reason=_explained(pair[0], verdict), before=_version(lower))
    since = _between(lower, document)
    return Planned(
        outcome="changed" if is_draft else "new_version" if others else "new",
        before=_version(lower),
        changes=since.changes if since is not None else (),
        warnings=tuple(_unheard(document, None)),
    )


def _refused(reason: str) -> Planned:
    return Planned(outcome="refused", reason=reason)


def _neighbours(document: Document, others: Sequence[Document]) -> tuple[Document | None, Document | None]:
    own = parse(_version(document))
    below = [each for each in others if parse(_version(each)) < own]
    above = [each for each in others if parse(_version(each)) > own]
    return (
        max(below, key=lambda each: parse(_version(each)), default=None),
        min(above, key=lambda each: parse(_version(each)), default=None),
    )


def _between(before: Document | None, after: Document | None) -> Verdict | None:
    if before is None or after is None:
        return None
    return verdicts([_contract(before)], [_contract(after)])[0]


def _contract(document: Document) -> Contract:
    return Sources([("", _bare(document))]).effective(document.kind, document.id, None)


def contract_of(document: Document) -> Contract:
    """What *document* says by itself, with its status and its end."""
    return Sources([("", document)]).effective(document.kind, document.id, None)


def _version(document: Document | None) -> str:
    return document.version if document is not None and isinstance(document.version, str) else ""


def _explained(before: Document | None, verdict: Verdict) -> str:
    return f"compared with {_version(before)}: {verdict.lie}"


def _settled(same: Document, document: Document) -> str:
    """Why *same*, which is no draft any more, does not become *document*."""
    what = f"{_version(same)} is {same.status}, and is published with other content"
    if same.status == "in_review":
        return f"{what}: take it back to draft first, and it is reviewed anew"
    verdict = _between(same, document)
    step = verdict.step if verdict is not None else None
    least = f" {parse(_version(same)).after(step)} or higher" if step is not None else " another version"
    return f"{what}, which never changes: publish this as{least}"


def _unheard(document: Document, same: Document | None) -> Iterator[str]:
    """What a document says of its life, which is not said by publishing it."""
    status = "draft" if same is None else same.status
    if isinstance(document.status, str) and document.status != status:
        yield f"it says `status: {document.status}`, and is {status}: the registry's own commands change that"
    if document.deprecation is not UNSET and (same is None or same.deprecation != document.deprecation):
        yield "its `deprecation` is not taken over: `bascule registry deprecate` says it"
