"""The shipped rules, judged by Prometheus' own tools, and the runbooks they point to."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from matchloop.observe.job_metrics import JobMetrics
from matchloop.observe.metrics import Metrics
from tests.promql import PROMETHEUS, ROOT, Rule, names_in, panels, rules
from tests.tools import program

ALERTS, RECORDED = rules("alerts.yaml"), rules("rules.yaml")
NAMED = re.compile(r"`(matchloop_[a-z_]+)[`{]")
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))


def promtool(*told: str) -> None:
    done = subprocess.run(
        [program("promtool"), *told],
        cwd=PROMETHEUS / "tests",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def exposed() -> set[str]:
    """Return every name under which services and jobs show something."""
    names = set()
    for row in (*Metrics.table(), *JobMetrics.table()):
        behind = {"Counter": ("_total",), "Histogram": ("_bucket", "_sum", "_count")}
        names |= {row.name + end for end in behind.get(row.kind.__name__, ("",))}
    return names


def test_they_are_well_formed() -> None:
    promtool("check", "config", "../prometheus.yaml")


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_they_say_what_their_unit_tests_expect(file: object) -> None:
    promtool("test", "rules", str(file))


def test_groups_have_names_of_their_own_so_that_one_resource_can_hold_them_all() -> None:
    files = [yaml.safe_load((PROMETHEUS / name).read_text()) for name in ("rules.yaml", "alerts.yaml")]
    names = [group["name"] for file in files for group in file["groups"]]
    assert len(set(names)) == len(names)


def test_every_alert_is_seen_to_fire() -> None:
    expected = [
        sample["labels"]
        for file in UNIT_TESTS
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for asked in test["promql_expr_test"]
        for sample in asked["exp_samples"]
    ]
    fired = {name for labels in expected for name in re.findall(r'alertname="(\w+)"', labels)}
    assert fired == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_tells_what_to_do(alert: Rule) -> None:
    told = alert.told["annotations"]
    assert alert.told["labels"]["severity"] in {"critical", "warning"}
    assert set(told) == {"summary", "description", "runbook_url"}
    page, _, anchor = told["runbook_url"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert alert.name in headings
    assert anchor == alert.name.lower()


def test_every_runbook_is_of_an_alert() -> None:
    headings = re.findall(r"^### (Matchloop\w+)$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE)
    assert headings == [alert.name for alert in ALERTS]


def test_rules_and_panels_name_what_is_shown() -> None:
    asked = {rule.name: rule.expression for rule in (*ALERTS, *RECORDED)}
    asked |= {f"{panel.title} {n}": each for panel in panels() for n, each in enumerate(panel.expressions)}
    known = exposed() | {rule.name for rule in RECORDED}
    unknown = {where: names_in(expression) - known for where, expression in asked.items()}
    assert {where: names for where, names in unknown.items() if names} == {}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs"])
def test_pages_name_what_is_shown(page: str) -> None:
    files = [ROOT / page] if page.endswith(".md") else sorted((ROOT / page).glob("*.md"))
    known = exposed() | {row.name for row in (*Metrics.table(), *JobMetrics.table())}
    named = {name for file in files for name in NAMED.findall(file.read_text(encoding="utf-8"))}
    assert named
    assert named <= known


def test_every_rule_that_is_recorded_is_read() -> None:
    read = {name for rule in (*ALERTS, *RECORDED) for name in names_in(rule.expression)}
    read |= {name for panel in panels() for each in panel.expressions for name in names_in(each)}
    assert {rule.name for rule in RECORDED} <= read
