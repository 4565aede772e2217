#!/usr/bin/env python3
"""Writes configs/schema.json, with which editors check configuration files, and the schemas of results in docs/."""

import json
from pathlib import Path

from speechmlp.audit.findings import Audit
from speechmlp.config.schema import Config
from speechmlp.evaluation.results import Evaluation

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    for model, name in (
        (Config, "configs/schema.json"),
        (Evaluation, "docs/evaluation.schema.json"),
        (Audit, "docs/audit.schema.json"),
    ):
        (root / name).write_text(json.dumps(model.model_json_schema(), indent=2) + "\n", encoding="utf-8")
        print(root / name)
