"""The shipped Grafana dashboards: whole, laid out, and each panel says what it shows."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from tests.promql import GRAFANA, Panel, dashboards, panels

WIDTH = 24
NAMES = ["loop.json", "serving.json", "training.json"]


def test_all_are_there_under_names_of_their_own() -> None:
    assert list(dashboards()) == NAMES
    told = dashboards().values()
    assert (
        len({dashboard["uid"] for dashboard in told}) == len({dashboard["title"] for dashboard in told}) == 3
    )
    assert all("matchloop" in dashboard["tags"] for dashboard in told)


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_for_its_data_source_and_names_no_other(name: str) -> None:
    dashboard = dashboards()[name]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert set(sources(dashboard)) == {"${datasource}"}
    assert "id" not in dashboard
    assert "__inputs" not in (GRAFANA / name).read_text(encoding="utf-8")


def sources(told: Any) -> list[str]:
    """Return the data source of everything that has one."""
    if isinstance(told, list):
        return [source for each in told for source in sources(each)]
    if not isinstance(told, dict):
        return []
    own = [told["datasource"]["uid"]] if "datasource" in told else []
    return own + [source for each in told.values() for source in sources(each)]


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_lies_on_another(name: str) -> None:
    told = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in told}) == len(told)
    places = [panel["gridPos"] for panel in told]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= WIDTH for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    assert panel.told["description"].endswith(".")
    assert panel.told["fieldConfig"]["defaults"]["unit"]
    assert panel.expressions
    assert len({target["refId"] for target in panel.told["targets"]}) == len(panel.expressions)
