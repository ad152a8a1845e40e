"""The reader: good rows kept, every broken one named; structure checked as a whole."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from matchloop.entities import Categorical, Multi, Numeric, Text
from matchloop.errors import InvalidInput
from matchloop.usecase import load_use_cases
from playground.dataset import Dataset, RowFault, read_dataset

TOML = """
name = "small"
[[entities]]
kind = "investor"
file = "investors.csv"
id = "investor_id"
categorical = ["country"]
multi = ["categories"]
text = ["name"]
[[entities]]
kind = "startup"
file = "startups.csv.gz"
id = "startup_id"
categorical = ["category"]
numeric = ["founded_year"]
created = "created_at"
[events]
file = "events.csv.gz"
time = "at"
value = "usd"
[[use_case]]
id = "investor_startup"
subject = "investor"
item = "startup"
event_type = "interest"
[[use_case]]
id = "startup_investor"
subject = "startup"
item = "investor"
event_type = "contact"
[split]
cutoff = "2020-03-01"
"""
INVESTORS = ["investor_id,name,country,categories", 'i1,"Fund, One",USA,food|health', "i2,Two,,"]
STARTUPS = ["startup_id,category,founded_year,created_at", "s1,food,2012,2019-05-01", "s2,,,"]
EVENTS = [
    "at,investor_id,startup_id,usd,round",
    "2020-02-01,i1,s1,5,a",
    "2020-04-01T02:00:00+02:00,i1,s2,,b",
    "2020-05-01,i1,s1,1,b",
    "2020-05-01,i1,s1,1,c",
]


def write(folder: Path, **changed: list[str] | str) -> Path:
    (folder / "dataset.toml").write_text(str(changed.get("toml", TOML)))
    for name, default in (("investors", INVESTORS), ("startups", STARTUPS), ("events", EVENTS)):
        raw = "\n".join(changed.get(name, default)).encode("utf-8", "surrogateescape")
        if name == "investors":
            (folder / "investors.csv").write_bytes(raw)
        else:
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(raw))
    return folder


def read(folder: Path, **changed: list[str] | str) -> Dataset:
    return read_dataset(write(folder, **changed), load_use_cases(), now=datetime(2021, 1, 1, tzinfo=UTC))


def test_reads_typed_entities_and_leaves_empty_cells_missing(tmp_path: Path) -> None:
    data = read(tmp_path)
    one, two = data.entities["investor"]
    assert one.features == {
        "name": Text("Fund, One"),
        "country": Categorical("USA"),
        "categories": Multi(("food", "health")),
    }
    assert two.features == {"name": Text("Two")}
    assert two.create_time is None
    first, second = data.entities["startup"]
    assert first.features == {"category": Categorical("food"), "founded_year": Numeric(2012.0)}
    assert first.create_time == datetime(2019, 5, 1, tzinfo=UTC)
    assert second.create_time == datetime(2020, 4, 1, tzinfo=UTC)  # its first event's
    assert not data.faults


def test_a_pair_reads_the_same_events_both_ways(tmp_path: Path) -> None:
    data = read(tmp_path)
    forward, reverse = data.interactions("investor_startup"), data.interactions("startup_investor")
    assert forward.subject_id.tolist() == reverse.item_id.tolist() == ["i1"] * 4
    assert set(forward.event_type.tolist()) == {"interest"}
    assert set(reverse.event_type.tolist()) == {"contact"}
    assert forward.train.tolist() == [True, False, False, False]
    assert forward.test.tolist() == [False, True, False, False]  # a pair of train is no test pair
    assert forward.time_at(1) == datetime(2020, 4, 1, tzinfo=UTC)
    assert np.isnan(forward.value[1])
    ids = [*forward.interaction_id.tolist(), *reverse.interaction_id.tolist()]
    assert len(set(ids)) == 8


def test_interaction_ids_do_not_depend_on_the_rows_around(tmp_path: Path) -> None:
    whole = read(tmp_path).interactions("investor_startup").interaction_id.tolist()
    broken = [EVENTS[0], "2020-02-01,i9,s1,,", *EVENTS[1:]]
    assert read(tmp_path, events=broken).interactions("investor_startup").interaction_id.tolist() == whole


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ("yesterday,i1,s1,,", ("at", "no ISO date")),
        (",i1,s1,,", ("at", "missing")),
        ("2031-01-01,i1,s1,,", ("at", "future")),
        ("2020-01-01,i7,s1,,", ("investor_id", "investor `i7` is not in investors.csv")),
        ("2020-01-01,,s1,,", ("investor_id", "missing")),
        ("1899-12-31,i1,s1,,", ("at", "before 1900")),
        ("2020-01-01,i1,s1", ("", "3 cells, but the header has 5")),
        ('2020-01-01,"i1,s1,,', ("", "never closed")),
        ("2020-01-01,i1,s\udcff,,", ("startup_id", "not UTF-8")),
    ],
)
def test_a_broken_event_is_named_and_the_others_are_kept(
    tmp_path: Path, events: str, fault: tuple[str, str]
) -> None:
    data = read(tmp_path, events=[*EVENTS[:2], events, *EVENTS[2:]])
    assert len(data.events) == 4
    (found,) = data.faults
    assert (found.file, found.line, found.column) == ("events.csv.gz", 3, fault[0])
    assert fault[1] in found.message
    assert str(found).startswith("events.csv.gz:3: ")


def test_an_entity_without_a_sound_id_is_left_out_and_so_are_its_events(tmp_path: Path) -> None:
    broken = ["s1,,,", ",,,", "s" * 129 + ",,,", "s\t3,,,"]
    event = f"2020-05-01,i1,{'s' * 129},,"
    data = read(tmp_path, startups=[*STARTUPS, *broken], events=[*EVENTS, event])
    assert [str(fault) for fault in data.faults] == [
        f"events.csv.gz:6: startup_id: startup `{'s' * 128}` was left out: startups.csv.gz:6 is broken",
        "startups.csv.gz:4: startup_id: `s1` stands in an earlier row too",
        "startups.csv.gz:5: startup_id: is missing",
        "startups.csv.gz:6: startup_id: is 129 characters long, at most 128 are allowed",
        "startups.csv.gz:7: startup_id: contains a control character: 's\\t3'",
    ]
    assert (data.rows_left_out, data.values_left_out) == (5, 0)
    assert len(data.events) == 4


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (
            {"startups": [*STARTUPS[:2], "s2,,old,"]},
            "startups.csv.gz:3: founded_year: is no finite number: `old`",
        ),
        (
            {"startups": [*STARTUPS[:2], "s2,,,soon"]},
            "startups.csv.gz:3: created_at: is no ISO date or time: `soon`",
        ),
        (
            {"startups": [*STARTUPS[:2], f"s2,{'x' * 257},,"]},
            "startups.csv.gz:3: category: has 257 characters",
        ),
        ({"investors": [*INVESTORS[:2], f"i2,{'x' * 8193},,"]}, "investors.csv:3: name: has 8193 characters"),
        (
            {"investors": [*INVESTORS[:2], f"i2,,,{'|'.join(map(str, range(65)))}"]},
            "investors.csv:3: categories: has 65",
        ),
        (
            {"events": [*EVENTS[:4], "2020-05-01,i1,s1,much,c"]},
            "events.csv.gz:5: usd: is no finite number: `much`",
        ),
        (
            {"events": [*EVENTS[:4], "2020-05-01,i1,s1,inf,c"]},
            "events.csv.gz:5: usd: is no finite number: `inf`",
        ),
    ],
)
def test_a_broken_cell_that_may_be_empty_costs_its_value_alone(
    tmp_path: Path, changed: dict[str, list[str]], fault: str
) -> None:
    data = read(tmp_path, **changed)
    (found,) = data.faults
    assert str(found).startswith(fault)
    assert found.row_kept
    assert (data.rows_left_out, data.values_left_out) == (0, 1)
    assert [len(entities) for entities in data.entities.values()] == [2, 2]
    assert len(data.events) == 4
    assert found.column not in data.entities["startup"][1].features


def test_line_breaks_within_quotes_count_as_lines(tmp_path: Path) -> None:
    data = read(tmp_path, investors=[INVESTORS[0], 'i1,"two\nlines",USA,', "i2,x"])
    assert data.faults[0] == RowFault("investors.csv", 4, "", "2 cells, but the header has 4")
    assert data.entities["investor"][0].features["name"] == Text("two\nlines")


def test_structural_mistakes_are_all_named_at_once(tmp_path: Path) -> None:
    wrong = (
        TOML.replace('id = "startup_investor"', 'id = "no_such"')
        .replace('numeric = ["founded_year"]', 'numeric = ["category", "wage"]')
        .replace('event_type = "interest"', 'event_type = "shout"')
    )
    with pytest.raises(InvalidInput) as error:
        read(tmp_path, toml=wrong)
    for part in ("no use case `no_such`", "`wage` is no feature", "`category` is categorical", "`shout`"):
        assert part in error.value.message


def test_missing_files_and_columns_are_all_named(tmp_path: Path) -> None:
    write(tmp_path, events=["at,investor_id"])
    (tmp_path / "startups.csv.gz").unlink()
    (tmp_path / "investors.csv").write_bytes(b"")
    with pytest.raises(InvalidInput) as error:
        read_dataset(tmp_path, load_use_cases())
    fields = [violation.field for violation in error.value.violations]
    assert fields == ["investors.csv:1", "startups.csv.gz", "events.csv.gz:1", "events.csv.gz:1"]


@pytest.mark.parametrize("text", ["name = ", 'name = "x"', TOML + '\ntrain = "a"'])
def test_a_wrong_toml_is_invalid_input(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"dataset\.toml"):
        read(tmp_path, toml=text)


def test_a_truncated_file_is_invalid_input(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "events.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InvalidInput, match=r"events\.csv\.gz: cannot be read"):
        read_dataset(tmp_path, load_use_cases())


def test_train_and_test_files_with_types(tmp_path: Path) -> None:
    toml = TOML.replace('file = "events.csv.gz"\n', 'type = "kind"\n').replace(
        'cutoff = "2020-03-01"', 'train = "train.csv"\ntest = "test.csv"\nrelevant = ["like"]'
    )
    write(tmp_path, toml=toml)
    header = "at,kind,investor_id,startup_id,usd\n"
    (tmp_path / "train.csv").write_text(header + "2020-01-01,view,i1,s1,\n")
    (tmp_path / "test.csv").write_text(
        header + "2020-01-02,like,i1,s2,\n2020-01-02,click,i2,s2,\n2020-01-02,,i2,s2,\n"
    )
    data = read_dataset(tmp_path, load_use_cases())
    forward, reverse = data.interactions("investor_startup"), data.interactions("startup_investor")
    assert forward.event_type.tolist() == ["view", "like", "click"]
    assert reverse.event_type.tolist() == [
        "view",
        "contact",
        "click",
    ]  # a type of its own, else the declared one
    assert forward.train.tolist() == [True, False, False]
    assert forward.test.tolist() == [False, True, False]
    assert [(f.file, f.line, f.column) for f in data.faults] == [("test.csv", 4, "kind")]
