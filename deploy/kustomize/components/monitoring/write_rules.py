"""Write rules.yaml: what deploy/prometheus computes and alerts on, as the Prometheus operator takes it."""

from __future__ import annotations

from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[2] / "prometheus"
WRITTEN = HERE / "rules.yaml"
HEAD = "# Written by write_rules.py from deploy/prometheus; not to be edited.\n"


def operator_rules() -> str:
    """Return a PrometheusRule for each file of rules, for groups of the same name may not share one."""
    files = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in sorted(RULES.glob("*.yaml"))}
    rules = [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": f"matchloop-{name}"},
            "spec": {"groups": file["groups"]},
        }
        for name, file in files.items()
        if "groups" in file
    ]
    written: str = yaml.safe_dump_all(rules, sort_keys=False, width=110)
    return HEAD + written


if __name__ == "__main__":
    WRITTEN.write_text(operator_rules(), encoding="utf-8")
