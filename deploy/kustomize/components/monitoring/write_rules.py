"""Write rules.yaml: what deploy/prometheus computes and alerts on, as the Prometheus operator takes it."""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[2] / "prometheus"
WRITTEN = HERE / "rules.yaml"
HEAD = "# Written by write_rules.py from deploy/prometheus; not to be edited.\n"


def operator_rules() -> str:
    """Return the PrometheusRule, as YAML."""
    files = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(RULES.glob("*.yaml")))
    groups = [group for file in files for group in file.get("groups", [])]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "matchloop"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(rule, sort_keys=False, width=110)


if __name__ == "__main__":
    WRITTEN.write_text(operator_rules(), encoding="utf-8")
