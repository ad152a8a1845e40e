"""A real Prometheus and Pushgateway, with the shipped configuration, rules and alerts."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from playground.processes import free_port, port_in_use
from tests.e2e.waiting import until
from tests.promql import PROMETHEUS, laid_open
from tests.tools import program

SCRAPE = "1s"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression gives now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def alerts(self) -> dict[str, list[dict[str, Any]]]:
        """Return the alerts that fire, by name."""
        fired: dict[str, list[dict[str, Any]]] = {}
        for alert in self.get("alerts")["alerts"]:
            fired.setdefault(alert["labels"]["alertname"], []).append(alert)
        return fired


@contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[str]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            until(lambda: port_in_use(port), f"{command[0]}, see {log}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """Start one; yields its URL."""
    port = free_port()
    command = [str(program("prometheus-pushgateway")), f"--web.listen-address=127.0.0.1:{port}"]
    with _running(command, port, folder / "pushgateway.log") as url:
        yield url


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """Start one that scrapes a port of this machine for each job, each second.

    Alerts are laid open: each fires, at once, for whatever it compares with its bounds.
    """
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE}
    assert {job["job_name"] for job in config["scrape_configs"]} == set(targets)
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    alerts = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        rule["expr"] = laid_open(rule["expr"])
        rule.pop("for", None)
    files = {
        "prometheus.yaml": yaml.safe_dump(config),
        "alerts.yaml": yaml.safe_dump(alerts),
        "rules.yaml": (PROMETHEUS / "rules.yaml").read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    port = free_port()
    command = [
        str(program("prometheus")),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with _running(command, port, folder / "prometheus.log") as url:
        yield Prometheus(url)
