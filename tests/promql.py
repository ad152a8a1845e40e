"""What the shipped Prometheus rules and Grafana dashboards ask for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
NAME = re.compile(r"\bmatchloop[a-z0-9_:]*")
STRING = re.compile(r'"[^"]*"')
COMPARISON = re.compile(r"\s(>=|<=|==|!=|>|<)\s")


@dataclass(frozen=True, slots=True)
class Rule:
    """A recording rule or an alert: `told` as the file has it."""

    name: str
    expression: str
    told: dict[str, Any]


def rules(file: str) -> list[Rule]:
    """Return the rules of a file, in its order."""
    groups = yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]
    return [
        Rule(told.get("alert") or told["record"], told["expr"], told)
        for group in groups
        for told in group["rules"]
    ]


def names_in(expression: str) -> set[str]:
    """Return the metrics of ours that an expression reads."""
    return set(NAME.findall(STRING.sub("", expression)))


def laid_open(alert: str) -> str:
    """Return an alert's expression with data wherever what it compares has some, beyond its bounds or not."""
    said = COMPARISON.sub(r" \1 bool ", alert)
    return re.sub(r"\bunless\b", "or", re.sub(r"\babsent\(", "(", said))


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard."""

    dashboard: str
    told: dict[str, Any]

    @property
    def title(self) -> str:
        """Where it is, for messages."""
        return f"{self.dashboard}: {self.told['title']}"

    @property
    def expressions(self) -> list[str]:
        """What it asks for, with Grafana's variables."""
        return [target["expr"] for target in self.told.get("targets", ())]


def dashboards() -> dict[str, dict[str, Any]]:
    """Return every dashboard by file name."""
    return {
        file.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(GRAFANA.glob("*.json"))
    }


def panels() -> list[Panel]:
    """Return every panel but the headings of rows."""
    return [
        Panel(name, told)
        for name, dashboard in dashboards().items()
        for told in dashboard["panels"]
        if told["type"] != "row"
    ]
