"""Load and validate configurations from YAML files and the command line.

Values come from the schema's defaults, then the file, then `key.path=value` overrides. The result is validated once;
each error is reported in one line.
"""

import reprlib
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from speechmlp.config.keys import alternatives, config_keys, known_keys, nearest_key
from speechmlp.config.plain_yaml import dump_yaml as dump_values
from speechmlp.config.plain_yaml import parse_value, parse_yaml
from speechmlp.config.schema import Config
from speechmlp.errors import UserError, unknown

MAX_BYTES = 1 << 18
"""Largest config file; the parser takes seconds for larger ones."""

Note = Callable[[str], None]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlevel = 3


def _shown(value: Any) -> str:
    """Returns a value as text for an error message, shortened if it is long or deeply nested."""
    try:
        text = _short.repr(value)
    except ValueError:  # integers of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown(parts: Sequence[str], values: Mapping[str, Any]) -> str:
    """Returns what to say about a key that the schema does not have."""
    key, here = ".".join(parts), values
    near = nearest_key(key[:200])
    for part in parts[:-1]:
        here = here[part] if isinstance(here, Mapping) and part in here else {}
    kind = here.get("kind") if isinstance(here, Mapping) else None
    of_kind = alternatives(parts[:-1]).get(kind) if isinstance(kind, str) else None
    if of_kind is not None and (near is None or near.rpartition(".")[2] not in of_kind.model_fields):
        return f"unknown key; known keys: {', '.join(of_kind.model_fields)}"
    if near is not None:
        return f"unknown key; did you mean {near}?"
    return f"unknown key; known keys: {', '.join(known_keys(parts[:-1]))}"


def _described(parts: Sequence[str]) -> str:
    """Returns the schema's description of a key that is not in a tagged union."""
    section: type[BaseModel] = Config
    for part in parts[:-1]:
        section = cast(type[BaseModel], section.model_fields[part].annotation)
    return str(section.model_fields[parts[-1]].description)


def _problem(source: str, error: Mapping[str, Any], values: Mapping[str, Any], overridden: Collection[str]) -> str:
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
    at = f"{key}.kind." if error["type"].startswith("union_tag") else f"{key}."
    inside = error["type"] != "value_error"  # which is about several keys of a section
    if any(at.startswith(f"{other}.") or (inside and other.startswith(at)) for other in overridden):
        source = "command line"
    found = _shown(error["input"])
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{source}: {key}: {_unknown(parts, values)}"
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


def validate_config(values: Any, source: str, overridden: Collection[str] = ()) -> Config:
    """Returns the configuration built from parsed values, with defaults filled in.

    Args:
        values: as parsed.
        source: where they come from, for messages.
        overridden: keys that come from the command line.

    Raises:
        UserError: the values do not fit the schema; one line per problem, starting with its source.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: expected a mapping of sections, found {type(values).__name__}")
    values = _with_kinds(values, Config().model_dump())
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(*(_problem(source, item, values, overridden) for item in error.errors())) from error


def _changed_kind(section: Sequence[str], values: Any, kind: Any, kept: Collection[str], note: Note) -> dict[str, Any]:
    """Returns a section with another kind: with the keys that this kind has too.

    Args:
        section: its key.
        values: of the section.
        kind: the new one.
        kept: keys that stay even if this kind does not have them, which is a mistake then.
        note: called with what is dropped.
    """
    kinds = alternatives(section)
    before = dict(values) if isinstance(values, Mapping) else {}
    old = before.get("kind", next(iter(kinds), None))
    dropped = []
    if isinstance(kind, str) and kind in kinds and kind != old:
        known = kinds[kind].model_fields
        dropped = [key for key in before if key not in known and ".".join([*section, str(key)]) not in kept]
    if dropped:
        name = ".".join(section)
        note(f"{name}.kind={kind}: dropped {', '.join(f'{name}.{key}' for key in dropped)}, which {kind} does not have")
    return {key: value for key, value in before.items() if key not in dropped} | {"kind": kind}


def shipped_configs() -> dict[str, Path]:
    """Returns name -> file of the shipped configurations, in the installed package or in its checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if files := sorted(folder.glob("*.yaml")):
            return {file.stem: file for file in files}
    return {}


def find_config(wanted: str | Path) -> Path:
    """Returns the file of a configuration: a path, or the name of a shipped one. A file that exists wins.

    Raises:
        UserError: there is no such file and no such name; it suggests the nearest name.
    """
    path, shipped = Path(wanted), shipped_configs()
    if path.exists() and not (path.is_dir() and str(wanted) in shipped):
        return path
    if str(wanted) in shipped:
        return shipped[str(wanted)]
    if path.stem in shipped:
        raise UserError(f"{wanted}: no such config file; the shipped one is found by its name: {path.stem}")
    raise unknown(f"{wanted}: no such config file or shipped configuration", path.stem, shipped)


def _override(values: dict[str, Any], overrides: Sequence[str], note: Note) -> list[str]:
    """Sets each `key.path=value` in nested dictionaries, in place; returns the keys."""
    keys: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not all(part.strip() for part in key.split(".")):
            raise UserError(f"command line: expected key.path=value, found {override!r}")
        *sections, name = key.split(".")
        value = parse_value(text, key)
        here = values
        for section in sections[:-1] if name == "kind" else sections:
            inner = here.get(section)
            here[section] = here = dict(inner) if isinstance(inner, Mapping) else {}
        if name == "kind" and sections:
            here[sections[-1]] = _changed_kind(sections, here.get(sections[-1]), value, keys, note)
        else:
            here[name] = value
        keys.append(key)
    return keys


def _ignore(line: str) -> None:
    del line


def load_config(path: str | Path | None, overrides: Sequence[str] = (), note: Note = _ignore) -> Config:
    """Returns the configuration of a YAML file with overrides applied.

    Args:
        path: the YAML file, or the name of a shipped one; None for the defaults only.
        overrides: strings `key.path=value`; the value is YAML, so `model.hidden=[512,256]` works.
        note: called with a line for each override that drops values, as `model.kind=gmlp` does.

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
        names = frozenset(name for listed in config_keys().values() for name in listed)
        values = parse_yaml(text, str(path), names)
        values = {} if values is None else values
    overridden = _override(values, overrides, note) if isinstance(values, dict) else ()
    return validate_config(values, str(path or "command line"), overridden)


def override_config(config: Config, overrides: Sequence[str], note: Note = _ignore) -> Config:
    """Returns a configuration with `key.path=value` overrides applied, validated again.

    Raises:
        UserError: an override does not fit the schema.
    """
    values = config.model_dump(mode="json")
    _override(values, overrides, note)
    return validate_config(values, "command line")


def dump_yaml(config: Config) -> str:
    """Returns the complete configuration as YAML; `load_config` reads an equal configuration from it."""
    return dump_values(config.model_dump(mode="json"))


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
