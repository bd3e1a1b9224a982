"""What the words of a definition say, and what they try to do to the model that reads them. PURE.

Only hints: they know some English and a little Vietnamese. A text in another language is not judged by its words.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

WRITING: Final = frozenset({
    *("add", "append", "apply", "approve", "archive", "assign", "attach", "block", "book", "buy", "cancel", "change"),
    *("charge", "clear", "close", "commit", "confirm", "copy", "create", "delete", "deploy", "disable", "draft"),
    *("drop", "edit", "enable", "evict", "execute", "grant", "import", "insert", "install", "invite", "issue"),
    *("kill", "make", "mark", "merge", "modify", "move", "notify", "open", "order", "overwrite", "patch", "pay"),
    *("place", "post", "process", "provision", "publish", "purge", "push", "put", "record", "refund", "register"),
    *("remove", "rename", "replace", "reply", "reset", "restart", "restore", "revoke", "rotate", "run", "save"),
    *("schedule", "send", "set", "share", "sign", "start", "stop", "store", "submit", "sync", "terminate"),
    *("transfer", "trigger", "undo", "uninstall", "unsubscribe", "update", "upload", "upsert", "write"),
})  # fmt: skip
# Of these nobody can mean anything that leaves things as they are.
SURELY_WRITING: Final = frozenset({
    *("cancel", "charge", "create", "delete", "insert", "overwrite", "pay", "publish", "purge", "refund", "remove"),
    *("rename", "revoke", "send", "terminate", "transfer", "update", "upload", "upsert"),
})  # fmt: skip
# What is not easily made undone.
GRAVE: Final = frozenset({
    *("charge", "delete", "drop", "overwrite", "pay", "purge", "refund", "revoke", "terminate", "transfer"),
})  # fmt: skip
READING: Final = frozenset({
    *("analyse", "analyze", "answer", "ask", "browse", "calculate", "call", "check", "classify", "click", "collect"),
    *("compare", "compress", "compute", "convert", "count", "crop", "decode", "describe", "detect", "diff"),
    *("display", "download", "echo", "encode", "estimate", "evaluate", "explain", "export", "extract", "fetch"),
    *("filter", "find", "format", "generate", "get", "give", "inspect", "list", "load", "look", "lookup", "match"),
    *("measure", "monitor", "navigate", "parse", "ping", "plan", "preview", "print", "provide", "query", "rank"),
    *("read", "render", "resize", "resolve", "retrieve", "return", "scan", "search", "serve", "show", "sort"),
    *("split", "suggest", "sum", "summarize", "tail", "take", "tell", "test", "transcribe", "translate", "trim"),
    *("use", "validate", "verify", "view", "wait", "watch"),
})  # fmt: skip
VERBS: Final = WRITING | READING

VAGUE: Final = re.compile(
    r"\b(?:does stuff|stuff|things|various|whatever|miscellaneous|misc|some kind of|and so on|and more"
    r"|handles? (?:everything|all|requests?)|useful (?:tool|function|helper)|helper (?:tool|function))\b|\betc\b",
    re.IGNORECASE,
)
_FAILURE: Final = re.compile(
    r"\b(?:fail|error|invalid|refus|reject|raise|denied|missing|unless|not found|does not exist|must|cannot|can't|only"
    r"|at most|at least|empty|none|null|limit|if no|when no|if the|lỗi|thất bại|không|giới hạn)",
    re.IGNORECASE,
)
_SIDE_EFFECT: Final = re.compile(
    r"side.?effect|tác dụng phụ|\b(?:tạo|gửi|xóa|xoá|cập nhật|ghi|sửa|thêm|thanh toán|đặt)\b", re.IGNORECASE
)
_EMPTY: Final = frozenset({
    *("a", "an", "and", "api", "by", "for", "from", "function", "given", "in", "is", "it", "new", "of", "on", "or"),
    *("specified", "that", "the", "this", "to", "tool", "with", "you", "your"),
})  # fmt: skip

# Each is something that a description has no reason to say to a model.
_ORDERS: Final = (
    r"(?:ignore|disregard|forget|override)\b.{0,30}\b(?:previous|prior|above|earlier|other|all|any|system)\b.{0,20}"
    r"\b(?:instruction|prompt|rule|message|direction|guideline)",
    r"\b(?:do not|don't|never)\b.{0,20}\b(?:tell|inform|mention|show|reveal|notify|alert|ask)\b.{0,20}"
    r"\b(?:user|human|person|operator|anyone)",
    r"\bwithout\b.{0,15}\b(?:telling|informing|asking|notifying|mentioning)",
    r"<\s*/?\s*(?:important|system|instructions?|secret|admin|assistant)\b[^>]{0,40}>",
    r"\b(?:system prompt|you are now|new instructions?:|developer mode|jailbreak)",
    r"\b(?:pass|include|send|put|append|forward|provide)\b.{0,40}\b(?:conversation|chat history|system message"
    r"|api.?keys?|passwords?|credentials|private keys?|\.ssh|id_rsa|\.env\b|environment variables)",
)  # fmt: skip
_ORDER: Final = re.compile("|".join(f"(?:{each})" for each in _ORDERS), re.IGNORECASE | re.DOTALL)
_OTHER_TOOLS: Final = re.compile(
    r"\b(?:always|must|first|before|instead of|rather than)\b.{0,30}\b(?:another|(?:any |all |every )?other)\b"
    r".{0,15}\b(?:tool|function)s?|\b(?:do not|don't|never)\b.{0,10}\b(?:use|call)\b.{0,25}\b(?:other|another|any)\b",
    re.IGNORECASE | re.DOTALL,
)
_WORD: Final = re.compile(r"[^\W\d_]+", re.UNICODE)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def words(text: str) -> list[str]:
    """The words of *text*, or of a name in any of the usual ways to write one, in small letters."""
    return [word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text))]


def stem(word: str) -> str:
    """The verb or noun that *word* is a form of, if it is one of those that are known; a guess otherwise."""
    for end, instead in (("ies", "y"), ("es", ""), ("es", "e"), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", "")):
        if word.endswith(end) and word.removesuffix(end) + instead in VERBS:
            return word.removesuffix(end) + instead
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def is_english(text: str) -> bool:
    """Whether *text* is in the letters of English, so that its words can be looked up."""
    letters = [each for each in text if each.isalpha()]
    return sum(each.isascii() for each in letters) >= 0.98 * len(letters)


def has_verb(text: str) -> bool:
    """Whether a word of *text* says what is done; its first one does if it ends as in `Reports …`."""
    said = words(text)
    return any(stem(word) in VERBS for word in said) or bool(said and re.fullmatch(r"\w+[^s]s", said[0]))


def says_that_it_writes(text: str) -> bool:
    return bool(_SIDE_EFFECT.search(text)) or any(stem(word) in WRITING for word in words(text))


def says_when_it_fails(text: str) -> bool:
    return bool(_FAILURE.search(text))


def restates(text: str, name: str) -> bool:
    """Whether *text* says no more than the name does."""
    said = {stem(word) for word in words(text)} - _EMPTY
    return said <= {stem(word) for word in words(name)}


def hidden(text: str) -> Iterator[str]:
    """The names of characters in *text* that people do not see and models read."""
    for each in dict.fromkeys(text):
        unseen = unicodedata.category(each) in ("Cf", "Co", "Cn") or (
            unicodedata.category(each) == "Cc" and each not in "\t\n\r"
        )
        # A joiner is a part of emoji and of some scripts; it shows nothing by itself, and hides nothing there.
        if unseen and not (each in "\u200c\u200d" and not is_english(text)):
            yield f"U+{ord(each):04X} {unicodedata.name(each, 'unnamed')}"


def order(text: str) -> str:
    """What *text* tells a model to do that is none of its business; "" if it does not."""
    found = _ORDER.search(unicodedata.normalize("NFKC", text))
    return " ".join(found[0].split()) if found else ""


def order_about_tools(text: str) -> str:
    """What *text* says of other tools; "" if it does not."""
    found = _OTHER_TOOLS.search(text)
    return " ".join(found[0].split()) if found else ""
