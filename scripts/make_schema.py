#!/usr/bin/env python3
"""Writes the JSON schemas in configs/ and docs/, and configs/README.md, which lists every configuration key."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from speechmlp.audit.findings import Audit
from speechmlp.config.schema import Config
from speechmlp.evaluation.results import Evaluation

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS: dict[str, type[BaseModel]] = {
    "configs/schema.json": Config,
    "docs/evaluation.schema.json": Evaluation,
    "docs/audit.schema.json": Audit,
}
LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
MARKER = "<!-- keys, which docs/configuration.md includes -->\n"
INTRODUCTION = """# Configurations

A configuration is a YAML file with all settings of a training run. On the command line, `key.path=value` changes one:

    speechmlp train --config configs/quickstart.yaml training.epochs=20 'model.hidden=[512, 256]'

The files here have every key; a key that is left out gets its default. Anchors, aliases and tags are not supported.
Editors with a YAML language server check the files against `schema.json` and show the descriptions below.
[data/README.md](../data/README.md) says how to make the corpora.

`scripts/make_schema.py` writes this page from the files and the schema.
"""


def _values(field: dict[str, Any]) -> str:
    """Returns the allowed values of a key in words."""
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if options := field.get("anyOf"):
        return " or ".join(map(_values, options))
    if "$ref" in field or "oneOf" in field:
        return "section"
    if field["type"] == "array":
        items = field.get("prefixItems", [field.get("items")])
        return f"list of {f'{len(items)} x ' if 'prefixItems' in field else ''}{_values(items[0])}"
    limits = ", ".join(f"{sign} {field[limit]}" for limit, sign in LIMITS.items() if limit in field)
    return f"{field['type']} {limits}".strip()


def _item(text: str) -> str:
    """Returns a list item, wrapped."""
    return textwrap.fill(f"- {text}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _entry(key: str, field: dict[str, Any]) -> str:
    default = field.get("default", {})
    shown = "" if isinstance(default, dict) else f" `{default if isinstance(default, str) else json.dumps(default)}`"
    meaning = f": {field['description']}" if "description" in field else ""
    return _item(f"**`{key}`**{shown} ({_values(field)}){meaning}")


def reference(config: type[BaseModel] = Config) -> str:
    """Returns configs/README.md: the shipped configurations, and every key with its default, values and meaning."""
    schema = config.model_json_schema()
    sections = {**schema.pop("$defs"), "": schema}
    paths: dict[str, list[str]] = {}

    def visit(name: str, path: str) -> None:
        paths.setdefault(name, []).append(path)
        for key, field in sections[name]["properties"].items():
            for inner in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(field)):
                visit(inner, f"{path}.{key}".lstrip("."))

    visit("", "")
    files = sorted((ROOT / "configs").glob("*.yaml"))
    headers = {path.name: path.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ") for path in files}
    parts = [
        INTRODUCTION,
        "\n".join(_item(f"[`{name}`]({name}): {text}") for name, text in headers.items()) + "\n",
        MARKER,
    ]
    for name, keys in paths.items():
        fields = sections[name]["properties"]
        kind = fields["kind"]["const"] if "kind" in fields else None
        title = " and ".join(f"`{key}`" for key in keys) if name else "Top level"
        entries = [_entry(key, field) for key, field in fields.items() if key != "kind"]
        parts.append(f"## {title}{f' of kind `{kind}`' if kind else ''}\n\n{sections[name]['description']}\n")
        parts += ["\n".join(entries) + "\n"] if entries else []
    return "\n".join(parts)


if __name__ == "__main__":
    texts = {name: json.dumps(model.model_json_schema(), indent=2) + "\n" for name, model in SCHEMAS.items()}
    for name, text in {**texts, "configs/README.md": reference()}.items():
        (ROOT / name).write_text(text, encoding="utf-8")
        print(ROOT / name)
