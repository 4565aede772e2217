"""Load and validate configurations from YAML files and the command line.

Values come from the schema's defaults, then the file, then `key.path=value` overrides. The result is validated once;
each error is reported in one line.
"""

import difflib
import re
import reprlib
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from speechmlp.config.schema import Config
from speechmlp.config.shipped import find_config
from speechmlp.errors import UserError

MAX_BYTES = 1 << 18
"""Largest config file; the parser takes seconds for larger ones."""

DEEPEST = 20
"""Largest depth of nested brackets."""


class _Loader(yaml.SafeLoader):
    """Reads plain values only: rejects duplicate keys, aliases and tags; reads 3e-4 as a float, as YAML 1.2 does."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803
        if self.flow_level > DEEPEST:  # the scanner's time grows with the square of the depth
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

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


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlevel = 3


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}; expected plain YAML") from error
    except (ValueError, OverflowError, RecursionError, AttributeError, TypeError) as error:  # dates such as 2001-99-99
        raise UserError(f"{source}: expected plain YAML: {type(error).__name__}: {error}") from error


def _shown(value: Any) -> str:
    """Returns a value as text for an error message, shortened if it is long or deeply nested."""
    try:
        text = _short.repr(value)
    except ValueError:  # integers of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tree(config: type[BaseModel] = Config, prefix: str = "") -> dict[str, list[str]]:
    """Returns dotted section -> its keys (the keys of all alternatives if it is a tagged union)."""
    keys: dict[str, list[str]] = {prefix: list(config.model_fields)}
    for name, field in config.model_fields.items():
        dotted = f"{prefix}.{name}" if prefix else name
        for option in get_args(field.annotation) or (field.annotation,):
            if isinstance(option, type) and issubclass(option, BaseModel):
                for section, names in _tree(option, dotted).items():
                    keys[section] = list(dict.fromkeys([*keys.get(section, []), *names]))
    return keys


def config_keys(config: type[BaseModel] = Config, prefix: str = "") -> dict[str, list[str]]:
    """Returns the dotted key of every setting -> its values where they have names (those of all alternatives)."""
    keys: dict[str, list[str]] = {}
    for name, field in config.model_fields.items():
        listed = get_origin(field.annotation) is tuple
        options = () if listed else get_args(field.annotation) or (field.annotation,)
        sections = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        for section in sections:
            for key, values in config_keys(section, f"{prefix}{name}.").items():
                keys[key] = list(dict.fromkeys([*keys.get(key, []), *values]))
        if not sections:
            named = [option for option in options if isinstance(option, str)]
            keys[prefix + name] = ["true", "false"] if bool in options else named
    return keys


def _nearest(dotted: str) -> str:
    """Returns a hint with the known key that is most similar to an unknown one."""
    section, _, key = dotted.rpartition(".")
    tree = _tree()
    if near := difflib.get_close_matches(key, tree.get(section, []), n=1, cutoff=0.6):
        return f"did you mean {f'{section}.{near[0]}' if section else near[0]!s}?"
    elsewhere = [f"{parent}.{name}".lstrip(".") for parent, names in tree.items() for name in names]
    same_name = [path for path in elsewhere if path.rpartition(".")[2] == key]
    if near := same_name or difflib.get_close_matches(dotted, elsewhere, n=1, cutoff=0.75):
        return f"did you mean {near[0]}?"
    return f"known keys: {', '.join(tree.get(section, tree['']))}"


def _described(parts: Sequence[str]) -> str:
    """Returns the schema's description of a key that is not in a tagged union."""
    section: type[BaseModel] = Config
    for part in parts[:-1]:
        section = cast(type[BaseModel], section.model_fields[part].annotation)
    return str(section.model_fields[parts[-1]].description)


def _problem(source: str, error: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Returns one line for one pydantic error: source, dotted key, expected, found, hint."""
    parts: list[str] = []
    here: Any = values
    for part in error["loc"]:
        if isinstance(here, Mapping) and part not in here and here.get("kind", part) == part:
            continue  # pydantic adds the name of the alternative of a tagged union; the file has no such key
        parts.append(str(part))
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = None
    key = textwrap.shorten(".".join(parts), 200) or "(top level)"
    found = _shown(error["input"])
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{source}: {key}: unknown key; {_nearest(key)}"
        case "union_tag_invalid":
            return f"{source}: {key}.kind: expected one of {context['expected_tags']}, found {_shown(context['tag'])}"
        case "union_tag_not_found":
            return f"{source}: {key}: expected a mapping with a key 'kind', found {found}"
        case "model_type" | "model_attributes_type":
            return f"{source}: {key}: expected a mapping of keys to values, found {found}"
        case "value_error":
            return f"{source}: {key}: {str(error['msg']).removeprefix('Value error, ')}"
        case "string_pattern_mismatch":
            return f"{source}: {key}: expected {_described(parts)}, found {found}"
        case _:
            message = str(error["msg"]).removeprefix("Input should be ")
            return f"{source}: {key}: expected {message}, found {found}"


def _with_kinds(values: Mapping[Any, Any], defaults: Mapping[str, Any]) -> dict[Any, Any]:
    """Returns the values with the default `kind` added to sections without one."""
    filled = dict(values)
    for key, default in defaults.items():
        if key == "kind":
            filled.setdefault(key, default)
        elif isinstance(default, Mapping) and isinstance(filled.get(key), Mapping):
            filled[key] = _with_kinds(filled[key], default)
    return filled


def validate_config(values: Any, source: str) -> Config:
    """Returns the configuration built from parsed values, with defaults filled in.

    Raises:
        UserError: the values do not fit the schema; one line per problem, starting with `source`.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: expected a mapping of sections, found {type(values).__name__}")
    values = _with_kinds(values, Config().model_dump())
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(*(_problem(source, item, values) for item in error.errors())) from error


def _override(values: dict[str, Any], override: str) -> None:
    """Sets `key.path=value` in nested dictionaries, in place."""
    key, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UserError(f"command line: expected key.path=value, found {override!r}")
    *sections, name = key.strip().split(".")
    here = values
    for section in sections:
        inner = here.get(section)
        here[section] = here = dict(inner) if isinstance(inner, Mapping) else {}
    here[name] = _parse_yaml(text, f"command line: {key.strip()}")


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Returns the configuration of a YAML file with overrides applied.

    Args:
        path: the YAML file, or the name of a shipped one; None for the defaults only.
        overrides: strings `key.path=value`; the value is YAML, so `model.hidden=[512,256]` works.

    Raises:
        UserError: the file cannot be read, is not plain YAML, or does not fit the schema.
    """
    values: Any = {}
    if path is not None:
        try:
            file = find_config(path)
            if not file.is_file():  # reading a pipe would block
                raise UserError(f"{path}: cannot be read as a config file: it is a folder, pipe or device")
            if file.stat().st_size > MAX_BYTES:
                raise UserError(f"{path}: cannot be read as a config file: it is larger than {MAX_BYTES} bytes")
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"{path}: cannot be read as a config file: {reason}") from error
        values = _parse_yaml(text, str(path))
        values = {} if values is None else values
    if overrides and isinstance(values, dict):
        for override in overrides:
            _override(values, override)
    return validate_config(values, str(path or "command line"))


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """Returns a configuration with `key.path=value` overrides applied, validated again.

    Raises:
        UserError: an override does not fit the schema.
    """
    values = config.model_dump(mode="json")
    for override in overrides:
        _override(values, override)
    return validate_config(values, "command line")


def dump_yaml(config: Config) -> str:
    """Returns the complete configuration as YAML; `load_config` reads an equal configuration from it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _settings(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Returns the values of a configuration by dotted key, such as `training.epochs`."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _settings(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return leaves


def require_same_settings(wanted: Config, found: Config, run: Path) -> None:
    """Checks that an existing run has the requested settings; `output` and `device` may differ.

    Args:
        wanted: the requested configuration.
        found: the configuration of the run.
        run: folder of the run, for the message.

    Raises:
        UserError: a setting differs, so the run must not be reused or continued under this configuration.
    """
    ours, theirs = (
        _settings(config.model_dump(mode="json", exclude={"output", "device"})) for config in (wanted, found)
    )
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise UserError(
                f"{run}: was started with {key}: {theirs.get(key)}, but {ours.get(key)} is requested; move the folder "
                "away to train again, or change the setting with speechmlp train --resume"
            )
