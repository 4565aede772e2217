#!/usr/bin/env python3
"""Writes configs/schema.json, with which editors complete and check configuration files."""

import json
from pathlib import Path

from speechmlp.config import Config

if __name__ == "__main__":
    target = Path(__file__).resolve().parents[1] / "configs" / "schema.json"
    target.write_text(json.dumps(Config.model_json_schema(), indent=2) + "\n", encoding="utf-8")
    print(target)
