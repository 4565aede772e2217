"""Plain YAML: values that mean the same to every reader, without anchors, tags, merge keys and duplicate keys.

PyYAML reads YAML 1.1, in which `010` is 8, `1:30` is 90 and `no` is false. YAML 1.2 and people read them otherwise.
Such values are refused, and so are values that end at a `#` which was probably meant as a part of them.
"""

import re
from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any

import yaml

from speechmlp.errors import UserError

DEEPEST = 20
"""Largest depth of nested brackets."""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NAMED = {"true": True, "false": False, "null": None}
_COMMENT = re.compile(r"[ \t]*(#[^\0\r\n]*)")
_LIKE_DATA = re.compile(r"#\S.*|#\s+\S*([\d/]|\.\w)\S*\s*")
"""A comment that may be the rest of a value: no space after `#`, or a single word with a digit, slash or suffix."""


class _CommentError(Exception):
    """There is a comment in a value on the command line."""


class _Loader(yaml.SafeLoader):
    """Reads plain values only: rejects duplicate keys, merge keys, aliases and tags; reads 3e-4 as a float."""

    comments = True
    """Whether there may be comments."""

    def scan_to_next_token(self) -> None:
        before = self.pointer
        super().scan_to_next_token()
        if not self.comments and "#" in self.buffer[before : self.pointer]:
            raise _CommentError

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803
        if self.flow_level > DEEPEST:  # the scanner's time grows with the square of the depth
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def fetch_more_tokens(self) -> Any:
        try:
            return super().fetch_more_tokens()
        except yaml.MarkedYAMLError as error:
            if "'\\t'" in str(error.problem):
                error.problem = "a tab cannot indent or separate; use spaces"
            raise

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not supported; write the value out",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(
                problem="tags are not supported; write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.value in first:
                raise yaml.MarkedYAMLError(
                    problem=f"duplicate key {key_node.value!r}", problem_mark=key_node.start_mark
                )
            if isinstance(key_node.value, Hashable):
                first.add(key_node.value)
        return super().construct_mapping(node, deep)


# YAML 1.2 and everybody read these as numbers; PyYAML wants a dot and a sign in the exponent, and none before the dot.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes if it would be read as something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = isinstance(_core(text), str) and isinstance(_yaml_1_1(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def _core(text: str) -> Any:
    """Returns the value of a plain scalar in the core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3.2)."""
    if _INTEGER.fullmatch(text):
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    if text in ("", "~"):
        return None
    if text.lower() in _NAMED and text in (text.lower(), text.capitalize(), text.upper()):
        return _NAMED[text.lower()]
    return text


@lru_cache(maxsize=1024)
def _yaml_1_1(text: str) -> Any:
    """Returns the value of a plain scalar in YAML 1.1, as PyYAML reads it, and y and n as its specification does."""
    if text in ("y", "Y", "n", "N"):
        return text in "yY"
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag in ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"):
        return tag
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (ValueError, OverflowError) as error:  # dates such as 2001-99-99
        return error


def _described(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value) if isinstance(value, int | float) else "a date"


def _surprise(node: yaml.ScalarNode) -> str | None:
    """Returns what is ambiguous about a plain scalar, or None."""
    if len(node.value) > 100:  # no number or date that anyone means
        return None
    here, there = _core(node.value), _yaml_1_1(node.value)
    # 1e3 is text in YAML 1.1; nobody means that.
    if _DECIMAL.fullmatch(node.value) and not re.match(r"[-+]?0[0-9]+$", node.value):
        return None
    if type(here) is type(there) and (here == there or here != here):
        return None
    if str(there).startswith("tag:"):
        return f"{node.value} is a merge key or default value in YAML 1.1, which is not supported; write the values out"
    quotes = f', text in quotes ("{node.value}")' if isinstance(here, str) or isinstance(there, str) else ""
    meanings = f"{_described(there)} in YAML 1.1 and {_described(here)} in YAML 1.2"
    return f"{node.value} is {meanings}; write what is meant{quotes}"


def _cut(node: yaml.ScalarNode, names: frozenset[str]) -> str | None:
    """Returns the comment after a plain scalar if it is probably a part of it, or None."""
    end = node.end_mark
    assert end.buffer is not None
    found = _COMMENT.match(end.buffer, end.pointer) if isinstance(_core(node.value), str | None) else None
    return found[1].rstrip() if found and node.value not in names and _LIKE_DATA.fullmatch(found[1]) else None


def _problems(node: yaml.Node, key: str, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yields line and problem of each plain scalar in a node whose value is not plain to see."""
    if isinstance(node, yaml.ScalarNode) and not node.style:
        problem = _surprise(node)
        if problem is None and (comment := _cut(node, names)):
            problem = f"{comment!r} after {node.value!r} is a comment in YAML; if it belongs to the value, put quotes "
            problem += "around both, otherwise put it on a line of its own"
        if problem:
            yield node.start_mark.line + 1, f"{key}: {problem}" if key else problem
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _problems(item, f"{key}.{number}".lstrip("."), names)
    elif isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            yield from _problems(key_node, key, names)
            yield from _problems(value, f"{key}.{key_node.value}".lstrip("."), names)


def parse_yaml(text: str, source: str, names: frozenset[str] = frozenset()) -> Any:
    """Returns the value of the text of a file.

    Args:
        text: YAML.
        source: the file, for messages.
        names: values after which any comment is a comment.

    Raises:
        UserError: it is not plain YAML; one line for each value that is ambiguous.
    """
    return _parse(text, source, None, names)


def parse_value(text: str, key: str) -> Any:
    """Returns the value of `key=text` on the command line.

    Raises:
        UserError: it is not plain YAML, or holds a comment.
    """
    try:
        return _parse(text, "command line", key, frozenset())
    except _CommentError:
        quoted = f": '{key}=\"{text}\"'" if '"' not in text and "'" not in text else ""
        problem = f"what follows '#' in {text!r} is a comment in YAML; put quotes around the value{quoted}"
        raise UserError(f"command line: {key}: {problem}") from None


def _parse(text: str, source: str, key: str | None, names: frozenset[str]) -> Any:
    loader = None
    prefix = source if key is None else f"{source}: {key}"
    try:
        loader = _Loader(text)
        loader.comments = key is None
        node = loader.get_single_node()
        if node is None:
            return None
        if problems := list(_problems(node, key or "", names)):
            raise UserError(*(f"{source}{f':{line}' if key is None else ''}: {problem}" for line, problem in problems))
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{prefix}:{mark.line + 1}" if mark and key is None else prefix
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}; expected plain YAML") from error
    except (ValueError, OverflowError, RecursionError, AttributeError, TypeError) as error:
        raise UserError(f"{prefix}: expected plain YAML: {type(error).__name__}: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


def dump_yaml(values: dict[str, Any]) -> str:
    """Returns values as YAML from which `parse_yaml` reads equal ones."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
