"""Addresses, letters, templates: generated texts add no header, no recipient and no line that is not theirs."""

import re
from datetime import UTC, datetime
from email import policy
from email.parser import BytesParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.packs.office.addresses import Mailbox, check_allowed, mailbox, mailboxes, subject_of
from bascule.packs.office.letter import Attachment, Letter, canonical, draft_of, sealed, written
from bascule.packs.office.template import fields_of, filled
from bascule.packs.pack import ToolFailed

AT = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
ID = "<0123456789abcdef@company.test>"
SENDER = Mailbox("office@company.test", "The Office")
HEADERS = ["From", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID", "X-Unsent", "MIME-Version"]
OF_CONTENT = ["Content-Type", "Content-Transfer-Encoding"]

nasty = st.text(st.sampled_from('ab \r\n\t:<>@,;"\\=?.éạ🙂\u2028\u0085\x00\u200d()-')) | st.text()
names = st.text(st.sampled_from("abz .'-éạ漢🙂=?_\u200d"), max_size=60) | st.text(max_size=60)
atoms = st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z0-9_=?-]{1,9})?", fullmatch=True)
domains = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\.(test|company\.test)", fullmatch=True)
addresses = st.builds("{}@{}".format, atoms, domains)


def is_refused(text: str) -> bool:
    try:
        mailbox(text)
    except ToolFailed:
        return True
    return False


# ---- addresses


@given(nasty)
def test_no_text_that_is_taken_for_an_address_has_room_for_another(text: str) -> None:
    try:
        found = mailbox(text)
    except ToolFailed:
        return
    assert re.fullmatch(r"[!-~]+@[!-~]+", found.address)
    assert not set(found.address) & set('<>,;:()[]"\\ \r\n')
    assert not set(found.name) & set('<>@,;:()[]"\\\r\n\t\x00')
    assert mailbox(str(found)) == found


@given(addresses, names)
def test_what_is_taken_once_is_taken_again_and_stays_the_same(address: str, name: str) -> None:
    text = f"{name} <{address}>"
    if not is_refused(text):
        assert mailbox(str(mailbox(text))) == mailbox(text)
    assert mailbox(address) == Mailbox(address)


def test_each_recipient_counts_once() -> None:
    found = mailboxes(["Ann <ann@company.test>", "ANN@company.test", "bob@company.test"])
    assert [each.address for each in found] == ["ann@company.test", "bob@company.test"]


@pytest.mark.parametrize("length", [65, 300])
def test_a_local_part_that_no_server_takes_is_refused(length: int) -> None:
    assert is_refused(f"{'a' * length}@company.test")
    assert not is_refused(f"{'a' * 64}@company.test")


@given(addresses, st.sampled_from(["*@company.test", "ann@*.test", "*@*.company.test"]))
def test_a_pattern_allows_by_local_part_and_domain(address: str, pattern: str) -> None:
    local, _, domain = address.partition("@")
    wanted = {
        "*@company.test": domain == "company.test",
        "ann@*.test": local == "ann",
        "*@*.company.test": domain.endswith(".company.test"),
    }[pattern]
    try:
        check_allowed([Mailbox(address)], [pattern])
    except ToolFailed:
        assert not wanted
    else:
        assert wanted


# ---- letters


@given(nasty)
def test_a_subject_is_one_visible_line(text: str) -> None:
    try:
        subject = subject_of(text)
    except ToolFailed:
        return
    assert len(subject.splitlines()) <= 1
    assert subject_of(subject) == subject


@settings(deadline=None)  # parsing takes its time on a busy machine
@given(
    to=st.lists(st.builds(Mailbox, addresses, names), min_size=1, max_size=4),
    hidden=st.lists(addresses, max_size=2),
    subject=nasty,
    body=nasty,
    draft=st.booleans(),
)
def test_no_subject_name_or_body_adds_a_header(
    to: list[Mailbox], hidden: list[str], subject: str, body: str, draft: bool
) -> None:
    try:
        letter = Letter(to=mailboxes(map(str, to)), bcc=mailboxes(hidden), subject=subject_of(subject), body=body)
        content = written(letter, message_id=ID, at=AT, sender=SENDER, draft=draft)
    except ToolFailed:
        return
    message = BytesParser(policy=policy.default).parsebytes(content)
    names = message.keys()
    expected = {"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", *OF_CONTENT}
    assert set(names) == expected | ({"X-Unsent"} if draft else set()) | ({"Bcc"} if draft and hidden else set())
    assert len(names) == len(set(names))
    assert [each.addr_spec for each in message["To"].addresses] == [each.address for each in letter.to]
    assert message["Subject"] == letter.subject
    assert content.isascii()
    assert content == canonical(content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    meant = body.replace("\r\n", "\n").replace("\r", "\n")
    assert message.get_content().replace("\r\n", "\n").rstrip("\n") == meant.rstrip("\n")


@settings(deadline=None)  # parsing takes its time on a busy machine
@given(
    to=st.lists(st.builds(Mailbox, addresses, names), min_size=1, max_size=3),
    hidden=st.lists(addresses, min_size=1, max_size=2),
    body=nasty,
    attached=st.binary(max_size=200),
)
def test_a_draft_is_sent_with_all_that_it_had_but_its_hidden_recipients(
    to: list[Mailbox], hidden: list[str], body: str, attached: bytes
) -> None:
    try:
        letter = Letter(
            to=mailboxes(map(str, to)),
            bcc=mailboxes(hidden),
            subject="Báo cáo",
            body=body,
            attachments=(Attachment("dữ liệu.bin", attached),),
        )
        draft = draft_of(written(letter, message_id=ID, at=AT, sender=None, draft=True))
    except ToolFailed:
        return
    assert draft.recipients == letter.recipients
    mail = sealed(draft, message_id="<new@company.test>", at=AT, sender=SENDER)
    assert mail.recipients == tuple(each.address for each in letter.recipients)
    message = BytesParser(policy=policy.default).parsebytes(mail.content)
    assert not {"Bcc", "X-Unsent"} & set(message.keys())
    assert message["From"] == str(SENDER)
    assert message["Message-ID"] == "<new@company.test>"
    (part,) = message.iter_attachments()
    assert part.get_content() == attached


@given(st.binary(max_size=300))
def test_any_bytes_in_the_place_of_a_draft_are_a_draft_or_refused(content: bytes) -> None:
    try:
        draft_of(content)
    except ToolFailed:
        pass  # every other exception fails the test


@given(st.binary())
def test_lines_end_in_one_way_whatever_they_ended_in(content: bytes) -> None:
    found = canonical(content)
    assert b"\r" not in found.replace(b"\r\n", b"")
    assert b"\n" not in found.replace(b"\r\n", b"")
    assert canonical(found) == found


# ---- templates

fields = st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.text(), max_size=4)


@given(fields, st.lists(st.text(), min_size=1, max_size=4))
def test_values_come_out_as_they_went_in(values: dict[str, str], between: list[str]) -> None:
    plain = [text.replace("{", "{{").replace("}", "}}") for text in between]
    names = list(values)
    template = plain[0] + "".join(f"{{{name}}}{plain[-1]}" for name in names)
    assert filled(template, values) == between[0] + "".join(f"{values[name]}{between[-1]}" for name in names)
    assert fields_of(template) == set(names)


@given(st.text(st.sampled_from("{}ab_. ")))
def test_every_template_is_read_or_refused(template: str) -> None:
    try:
        needed = fields_of(template)
    except ToolFailed:
        return
    assert filled(template, dict.fromkeys(needed, "{x}")).count("{x}") >= len(needed)
    if needed:
        with pytest.raises(ToolFailed):
            filled(template, {})
