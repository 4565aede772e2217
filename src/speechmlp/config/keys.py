"""The keys of the configuration by their dotted paths, and the nearest one to a mistyped one."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from speechmlp.config.schema import Config

ELSEWHERE = {
    "learning_rate": "training.optimizer.lr",
    "data": "corpus.manifest",
    "cuda": "device",
    "gpu": "device",
    "out": "output.folder",
    "output": "output.folder",
    "output_dir": "output.folder",
    "run_name": "output.name",
}
"""Keys by the names that they have in other programs."""


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


def flat_values(config: BaseModel) -> dict[str, Any]:
    """Returns the dotted key of every setting -> its plain value; a list stays one value, and so does an empty section.

    A section that is null is one value too.
    """
    flat: dict[str, Any] = {}

    def visit(values: dict[str, Any], above: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                visit(value, f"{above}{key}.")
            else:
                flat[above + key] = value

    visit(config.model_dump(mode="json"), "")
    return flat


def alternatives(section: Sequence[str]) -> dict[str, type[BaseModel]]:
    """Returns kind -> schema of a section that has kinds, the default first; nothing for other keys."""
    options: tuple[Any, ...] = (Config,)
    for part in section:
        sections = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        fields = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
        options = get_args(fields[0]) or (fields[0],) if fields else ()
    sections = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
    return {one.model_fields["kind"].default: one for one in sections if "kind" in one.model_fields}


def known_keys(section: Sequence[str]) -> list[str]:
    """Returns the keys in a section; those at the top if there is no such section."""
    tree = _tree()
    return tree.get(".".join(section), tree[""])


def nearest_key(dotted: str) -> str | None:
    """Returns the known key that is most similar to an unknown one, if any is."""
    if dotted in ELSEWHERE:
        return ELSEWHERE[dotted]
    section, _, key = dotted.rpartition(".")
    tree = _tree()
    if near := difflib.get_close_matches(key, tree.get(section, []), n=1, cutoff=0.6):
        return f"{section}.{near[0]}".lstrip(".")
    elsewhere = [f"{parent}.{name}".lstrip(".") for parent, names in tree.items() for name in names]
    same_name = [path for path in elsewhere if path.rpartition(".")[2] == key]
    near = same_name or difflib.get_close_matches(dotted, elsewhere, n=1, cutoff=0.75)
    return near[0] if near else None


def key_of_option(name: str) -> str | None:
    """Returns the key that is meant by an option of a command line, such as `batch-size`; None if there is none."""
    name = name.replace("-", "_")
    key = nearest_key(name)
    if key is None:
        return None
    inside = _tree().get(key, [])  # if it is a section
    return next((f"{key}.{inner}" for inner in ("kind", "manifest") if inner in inside), key)
