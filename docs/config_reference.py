"""The reference of configuration keys as Markdown, from the schema: `python docs/config_reference.py` prints it."""

import json
from collections.abc import Mapping
from typing import Any

from speechmlp.config.schema import Config

MARKER = "<!-- keys -->"
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

Schema = Mapping[str, Any]


def _values(schema: Schema, root: Schema) -> str:
    """Returns which values a key takes."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return ", or ".join(_values(one, root) for one in schema["anyOf"])
    if "$ref" in schema:
        return "mapping"
    if schema["type"] == "array":
        items = schema.get("prefixItems")
        if items:
            return f"list of {len(items)}, each: {_values(items[0], root)}"
        if "$ref" in schema["items"]:
            keys = root["$defs"][schema["items"]["$ref"].rpartition("/")[2]]["properties"]
            return f"list of mappings with {' and '.join(f'`{key}`' for key in keys)}"
        return f"list of {_values(schema['items'], root)}"
    limits = [f"{sign} {schema[name]}" for name, sign in LIMITS.items() if name in schema]
    return " ".join([TYPES[schema["type"]], ", ".join(limits)]).strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sections(schema: Schema, root: Schema) -> list[Schema]:
    """Returns the mappings that a key takes, one for each kind; none if it takes plain values."""
    options = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return [root["$defs"][option["$ref"].rpartition("/")[2]] for option in options if "$ref" in option]


def _render(path: str, section: Schema, root: Schema) -> list[str]:
    """Returns the lines of a section and of those in it."""
    properties = section["properties"]
    kind = properties.get("kind", {}).get("const")
    title = [f"### `{path}`, `kind: {kind}`", ""] if kind else [f"### `{path}`", ""] if "." in path else []
    lines = [*title, section["description"], ""]
    if set(properties) > {"kind"} or not kind:
        lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
    inner = []
    for name, schema in properties.items():
        if name == "kind":
            continue
        sections = _sections(schema, root)
        inner += [(f"{path}.{name}", one) for one in sections]
        values = "see below" if sections else _values(schema, root)
        default = schema.get("default")
        if isinstance(default, Mapping):
            default = f"kind: {default['kind']}" if "kind" in default else "see below"
        shown = (
            f"`{default if isinstance(default, str) else json.dumps(default)}`" if "default" in schema else "required"
        )
        lines.append(f"| `{name}` | {_cell(values)} | {shown} | {_cell(schema.get('description', ''))} |")
    lines.append("")
    for inner_path, one in inner:
        lines += _render(inner_path, one, root)
    return lines


def render() -> str:
    """Returns the reference: a heading and a table for each section, and for each kind of one."""
    root = Config.model_json_schema()
    lines = []
    for name, schema in root["properties"].items():
        lines += [f"## `{name}`", ""]
        sections = _sections(schema, root)
        if not sections:
            lines += [f"{schema['description']}. Default: `{schema['default']}`.", ""]
        elif isinstance(schema["default"], Mapping) and "kind" in schema["default"]:
            lines += [f"Default: `kind: {schema['default']['kind']}`.", ""]
        elif schema["default"] is None:
            lines += ["Default: `null`.", ""]
        for section in sections:
            lines += _render(name, section, root)
    return "\n".join(lines)


if __name__ == "__main__":
    print(render())
