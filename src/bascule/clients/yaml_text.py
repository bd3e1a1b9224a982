"""A configuration of Bascule in YAML, with servers added to it; comments, order and layout stay. PURE.

Where `servers` ends is told by the marks of the parser; what comes of it is read again, and if anything but the new
servers became different, or the layout leaves no place for a block, Unchangeable is raised.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from bascule.clients.jsonc import Unchangeable, Unreadable
from bascule.documents import PlainLoader, yaml_problem
from bascule.text import yaml_value

_SERVERS: Final = "servers"
_LINES: Final = re.compile(r".*?(?:\r\n|[\n\r\x85\u2028\u2029])|.+", re.DOTALL)  # as PyYAML counts them


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def text(self, value: str) -> yaml.Node:
        """In one line, whatever is in it."""
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.text)
_BOTH: Final = (yaml.SafeDumper.yaml_implicit_resolvers, PlainLoader.yaml_implicit_resolvers)
_Dumper.yaml_implicit_resolvers = {
    first: [rule for rules in _BOTH for rule in rules.get(first, [])]
    for first in {key for each in _BOTH for key in each}
}


def value_of(text: str) -> Any:
    """What *text* says; an empty one says `{}`. Raises Unreadable."""
    try:
        return yaml_value(text.removeprefix("\ufeff")) or {}
    except yaml.MarkedYAMLError as error:
        raise Unreadable(yaml_problem(error), error.problem_mark.line + 1 if error.problem_mark else None) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable("not YAML that can be read") from error


def block(servers: Mapping[str, Mapping[str, Any]], comments: Mapping[str, str], indent: str = "  ") -> str:
    """*servers* as they stand below `servers:`, each after its comment."""
    lines = []
    for name, options in servers.items():
        if comments.get(name):
            lines.append(f"# {comments[name]}")
        dumped = yaml.dump({name: dict(options)}, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True)
        lines += dumped.splitlines()
    return "".join(f"{indent}{line}\n" for line in lines)


def with_servers(text: str, servers: Mapping[str, Mapping[str, Any]], comments: Mapping[str, str]) -> str:
    """*text* with *servers* behind those that it has. Raises Unreadable or Unchangeable."""
    before = value_of(text)
    if not isinstance(before, dict) or not isinstance(before.get(_SERVERS) or {}, dict):
        raise Unchangeable("its `servers` are no mapping of names")
    wanted = {**before, _SERVERS: {**(before.get(_SERVERS) or {}), **servers}}
    bom = "\ufeff" if text.startswith("\ufeff") else ""
    lines = _opened(text.removeprefix(bom))
    place, indent = _place(text.removeprefix(bom))
    body = block(servers, comments, indent) if place is not None else "servers:\n" + block(servers, comments)
    place = len(lines) if place is None else min(place, len(lines))
    if place and not lines[place - 1].endswith("\n"):
        body = "\n" + body
    body = body.replace("\n", "\r\n" if "\r\n" in text else "\n")
    changed = bom + "".join([*lines[:place], body, *lines[place:]])
    try:
        found = value_of(changed)
    except Unreadable as error:
        raise Unchangeable("there is no place for a block below its `servers`") from error
    if found != wanted:
        raise Unchangeable("there is no place for a block below its `servers`")
    return changed


def _root(text: str) -> yaml.Node | None:
    root: yaml.Node | None = yaml.compose(text, Loader=PlainLoader)
    return root


def _servers(text: str) -> tuple[yaml.Node, yaml.Node] | None:
    root = _root(text)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return next(((key, value) for key, value in pairs if key.value == _SERVERS), None)


def _place(text: str) -> tuple[int | None, str]:
    """The line before which a block of servers goes, and its indentation. None: there are no `servers` yet."""
    found = _servers(text)
    if found is None:
        return None, ""
    key, value = found
    outer = " " * key.start_mark.column
    if isinstance(value, yaml.MappingNode) and value.value:
        if value.flow_style:
            raise Unchangeable("its `servers` stand between braces, where a block has no place")
        return _line_after(value), " " * value.start_mark.column
    return value.end_mark.line + 1 if value.value == [] else key.end_mark.line + 1, f"{outer}  "


def _line_after(node: yaml.Node) -> int:
    """The line behind the last character of *node*. The end of a block itself is where the next thing begins."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return max(_line_after(value) for pair in node.value for value in pair)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return max(_line_after(value) for value in node.value)
    end = node.end_mark
    return int(end.line) if end.column == 0 and end.line > node.start_mark.line else int(end.line) + 1


def _opened(text: str) -> list[str]:
    """The lines of *text* with `servers:` in place of `servers: {}`, so that a block can follow."""
    lines = _LINES.findall(text)
    found = _servers(text)
    if found is None or not isinstance(found[1], yaml.MappingNode) or found[1].value or not found[1].flow_style:
        return lines
    begin, end = found[1].start_mark, found[1].end_mark
    if begin.line != end.line:
        raise Unchangeable("its `servers` stand between braces, where a block has no place")
    line = lines[begin.line]
    lines[begin.line] = line[: begin.column].rstrip() + line[end.column :]
    return lines
