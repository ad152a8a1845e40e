"""Every benchmark can be run small and in full, and the pages tell what the committed results came to."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import running
from benchmarks.catalogue import BENCHMARKS, Benchmark, Size, by_name
from benchmarks.charts import chart_of, plot_report
from benchmarks.plots import draw
from benchmarks.report import Better, Target, about, write_report
from benchmarks.running import Outcome, Places, run
from benchmarks.tables import PAGES, RESULTS, page_with, results

ROOT = Path(__file__).parents[2]
COMMANDS = {"tables", "__main__"}
"""What is no benchmark, though it can be run."""
WHEREABOUTS = re.compile(r"(?<![\w.])/(?:home|Users|root|tmp|usr|var|opt|mnt|work|srv)/|\\\\Users\\\\")
RUNNABLE = Benchmark("packages", "?", small="", full="", seconds=120, minutes=2)


def test_every_benchmark_is_in_the_catalogue_once() -> None:
    files = {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if "typer.run(main)" in path.read_text()
    }
    names = [each.name for each in BENCHMARKS]
    assert set(names) == files - COMMANDS
    assert len(set(names)) == len(names)


def options_of(name: str) -> set[str]:
    """Return the options of a benchmark's main; its source is read, since importing some takes seconds."""
    source = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
    main = next(each for each in source.body if isinstance(each, ast.FunctionDef) and each.name == "main")
    asked = [*main.args.args, *main.args.kwonlyargs]
    spelled = {
        node.value for each in asked if each.annotation is not None for node in ast.walk(each.annotation)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # fmt: skip
    return {f"--{each.arg.replace('_', '-')}" for each in asked} | spelled


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda each: each.name)
def test_its_options_are_its_own(benchmark: Benchmark, tmp_path: Path) -> None:
    options = options_of(benchmark.name)
    for size in Size:
        asked = benchmark.arguments(size, datasets=tmp_path, kept=tmp_path)
        given = {each.replace("--no-", "--") for each in [*asked, "--out"] if each.startswith("--")}
        assert given <= options


def test_the_pages_hold_what_the_results_came_to() -> None:
    found = results()
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert page_with(page, text, found) == text, f"{page} is out of date: python -m benchmarks.tables"


def test_the_page_tells_what_each_does() -> None:
    told = re.findall(r"^\| `(\w+)` \| ", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE)
    assert all(told.count(each.name) == 2 for each in BENCHMARKS)


def test_committed_results_are_full_ones_with_a_plot_and_without_a_path() -> None:
    for path in RESULTS.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        whole = json.loads(text)
        assert path.stem in by_name()
        assert whole["size"] == Size.FULL
        assert set(whole) >= {"machine", "versions", "commit", "command", "seconds", "figures", "targets"}
        assert path.with_suffix(".svg").is_file()
        assert not WHEREABOUTS.search(text), path.name


def test_a_report_does_not_tell_whose_machine_it_was() -> None:
    assert set(about()["machine"]) == {"cpu", "cpus", "memory_gb", "os", "load_average"}
    assert not WHEREABOUTS.search(json.dumps(about()))


def test_a_run_is_measured_stamped_and_drawn(tmp_path: Path) -> None:
    found = run(RUNNABLE, Size.SMALL, Places(tmp_path))
    assert found.outcome is Outcome.MEASURED, found.detail
    assert found.targets
    whole = json.loads((tmp_path / "packages.json").read_text())
    assert (whole["size"], whole["command"]) == ("small", "python -m benchmarks.packages")
    assert whole["seconds"] == round(found.seconds, 1)
    assert plot_report(tmp_path / "packages.json").read_text().count("<svg") == 1


def test_a_run_over_its_limit_is_ended_and_leaves_the_earlier_result(tmp_path: Path) -> None:
    (tmp_path / "packages.json").write_text("{}")
    found = run(replace(RUNNABLE, minutes=0.0002), Size.FULL, Places(tmp_path))
    assert (found.outcome, found.detail) == (Outcome.TOO_LONG, "ended after 0 s")
    assert (tmp_path / "packages.json").read_text() == "{}"
    assert not (tmp_path / "packages.new").exists()


def test_a_run_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    found = run(replace(RUNNABLE, small="--nonsense"), Size.SMALL, Places(tmp_path))
    assert found.outcome is Outcome.FAILED
    assert "exit code 2" in found.detail
    assert "--nonsense" in found.detail
    assert not (tmp_path / "packages.json").exists()


def test_a_broken_promise_is_told_and_its_figures_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(arguments: list[str], log: Path, limit: float) -> int:
        Path(arguments[-1]).write_text(json.dumps({"user_movie": {"all": 0.5}}))
        log.write_text("a list failed\n")
        return 1

    monkeypatch.setattr(running, "_ended", ended)
    found = run(RUNNABLE, Size.FULL, Places(tmp_path))
    assert (found.outcome, found.detail) == (Outcome.FAILED, "exit code 1\na list failed")
    whole = json.loads((tmp_path / "packages.json").read_text())
    assert whole["figures"] == {"user_movie": {"all": 0.5}}, "figures that stand alone become a report"
    assert whole["targets"] == []
    assert whole["commit"] == about()["commit"]


def test_what_needs_data_sets_is_left_out_without(tmp_path: Path) -> None:
    found = run(replace(RUNNABLE, small="{datasets}/ml100k"), Size.SMALL, Places(tmp_path))
    assert found.outcome is Outcome.LEFT_OUT
    assert list(tmp_path.iterdir()) == []


def result(name: str, *targets: Target, size: Size = Size.FULL) -> dict[str, Any]:
    told = {"size": size, "command": f"python -m benchmarks.{name}", "seconds": 90.0}
    machine = {"cpu": "A CPU", "cpus": 2, "memory_gb": 8.1, "os": "An OS"}
    return {
        "machine": machine,
        "versions": {"python": "3.11"},
        "commit": "abc",
        "figures": {},
        "targets": [
            {
                "name": each.name,
                "measured": each.measured,
                "bound": each.bound,
                "better": each.better,
                "low": each.low,
                "high": each.high,
            }
            for each in targets
        ],
    } | told


def test_a_table_has_full_results_alone_in_words_where_there_are_some(tmp_path: Path) -> None:
    met = Target("start_s", 3.456, 60.0, Better.LOWER, 3.0, 1234.5)
    missed = Target("failed_calls", 2.0, 0.0, Better.LOWER, 2.0, 2.0)
    for each in (result("retrieval", met), result("backup", missed), result("ingest", met, size=Size.SMALL)):
        name = each["command"].rpartition(".")[2]
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
    found = results(tmp_path)
    assert [each.benchmark.name for each in found] == ["retrieval", "backup"]
    page = "a\n<!-- results: {} -->\nold\n<!-- end of results -->\nz\n"
    speed = page_with("README.md", page.format("speed"), found)
    line = "| its start from what it kept, seconds | 3.46 | 3 to 1,234 | ≤ 60 | met |"
    assert f"{line} [retrieval](benchmarks/results/retrieval.json) |" in speed
    assert "failed calls" not in speed
    assert "On A CPU, 2 cores, 8 GB, An OS, Python 3.11; commit abc." in speed
    all_ = page_with("docs/benchmarks.md", page.format("all"), found)
    assert (
        "| failed calls | 2 | 2 to 2 | ≤ 0 | **missed** | [backup](../benchmarks/results/backup.json) |"
        in all_
    )
    assert "old" not in speed + all_
    assert page_with("README.md", speed, found) == speed


def test_a_benchmark_without_a_plot_of_its_own_shows_targets_over_bounds(tmp_path: Path) -> None:
    report = tmp_path / "new.json"
    write_report(report, about(), {}, [Target("speed", 2.0, 4.0, Better.LOWER, 1.0, 3.0)])
    chart = chart_of("new", {}, json.loads(report.read_text())["targets"])
    assert chart.panels[0].series == {"": {"speed, at most 1": (0.25, 0.5, 0.75)}}
    draw(chart, tmp_path / "new.svg")
    drawn = (tmp_path / "new.svg").read_text()
    assert "speed, at most 1" in drawn
    draw(chart, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == drawn


def test_where_a_lists_time_goes_is_told_over_an_empty_call(tmp_path: Path) -> None:
    page = "<!-- results: stages -->\nold\n<!-- end of results -->\n"
    assert "Nothing is measured yet" in page_with("docs/benchmarks.md", page, [])
    taken = {"empty": 0.4, "state": 0.8, "candidates": 4.0, "list": 6.0, "stored": 8.2}
    whole = {**result("recommend"), "figures": {"stages_ms": taken}}
    (tmp_path / "recommend.json").write_text(json.dumps(whole))
    told = page_with("docs/benchmarks.md", page, results(tmp_path))
    assert "| the subject's state, by feedback_svc | 0.8 | 2 |" in told
    assert "| that, and the session stored: a list | 8.2 | 20.5 |" in told
