"""`python -m playground import`: counts, broken rows by place, completed by a second run, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from playground.__main__ import main
from playground.clients import Clients
from playground.processes import free_port
from playground.stack import Stack

pytestmark = pytest.mark.processes

TOML = """
name = "{name}"
[[entities]]
kind = "user"
file = "users.csv"
id = "user_id"
categorical = ["occupation"]
numeric = ["age"]
[[entities]]
kind = "movie"
file = "movies.csv"
id = "movie_id"
multi = ["genres"]
numeric = ["release_year"]
text = ["title"]
[events]
file = "events.csv"
time = "at"
type = "what"
value = "rating"
[[use_case]]
id = "user_movie"
subject = "user"
item = "movie"
"""
USERS = ["user_id,occupation,age", "{n}-u1,baker,33", "{n}-u2,,41"]
MOVIES = ["movie_id,title,release_year,genres", "{n}-m1,One,1999,a|b", "{n}-m2,Two,,"]
EVENTS = [
    "at,user_id,movie_id,what,rating",
    "2020-01-01,{n}-u1,{n}-m1,view,3",
    "2020-01-02,{n}-u1,{n}-m2,like,5",
    "2020-01-03,{n}-u2,{n}-m1,view,",
    "2020-01-03,{n}-u2,{n}-m1,view,",
]

Run = Callable[..., tuple[int, str, str]]


def write(folder: Path, name: str, **changed: list[str] | str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "dataset.toml").write_text(str(changed.get("toml", TOML)).replace("{name}", name))
    for file, rows in (("users", USERS), ("movies", MOVIES), ("events", EVENTS)):
        lines = "\n".join(changed.get(file, rows)).replace("{n}", name)
        (folder / f"{file}.csv").write_text(lines + "\n")
    return folder


@pytest.fixture
def run(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(folder: Path, *options: str) -> tuple[int, str, str]:
        given = options or ("--feedback", stack.addresses.feedback)
        monkeypatch.setattr(sys, "argv", ["playground", "import", str(folder), *given])
        with pytest.raises(SystemExit) as exited:
            main()
        said = capsys.readouterr()
        code = exited.value.code
        return code if isinstance(code, int) else 0, said.out, said.err

    return call


def loaded(out: str) -> dict[str, tuple[int, int]]:
    """Read the printed table: (written, there before) by kind and use case."""
    rows = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in out.splitlines()]
    return {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[1].isdecimal()}


def stored(clients: Clients, name: str) -> int:
    ids = [
        found.interaction.interaction_id
        for user in (f"{name}-u1", f"{name}-u2", f"{name}-u3")
        for found in clients.feedback.ListInteractions(
            feedback_pb.ListInteractionsRequest(use_case="user_movie", subject_id=user), timeout=5
        ).interactions
    ]
    assert len(ids) == len(set(ids))
    return len(ids)


def test_a_data_set_is_loaded_once_however_often(
    stack: Stack, clients: Clients, run: Run, tmp_path: Path
) -> None:
    folder = write(tmp_path, "once")
    command = ["-m", "playground", "import", str(folder), "--feedback", stack.addresses.feedback]
    done = subprocess.run(  # as a person does
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert loaded(done.stdout) == {"user": (2, 0), "movie": (2, 0), "user_movie": (4, 0)}
    code, out, _ = run(folder)
    assert code == 0
    assert loaded(out) == {"user": (0, 2), "movie": (0, 2), "user_movie": (0, 4)}
    assert stored(clients, "once") == 4


def test_broken_rows_are_named_the_rest_is_loaded_and_a_mended_file_completes_it(
    clients: Clients, run: Run, tmp_path: Path
) -> None:
    broken_events = [
        *EVENTS[:2],
        "yesterday,{n}-u1,{n}-m2,like,5",
        EVENTS[3],
        "2020-01-03,{n}-u2,{n}-m1,view,many",
        "2020-01-04,{n}-u3,{n}-m1,view,",
        "2020-01-04,{n}-u1,{n}-m1,,",
        "2020-01-04,{n}-u1,{n}-m1,shout,",
        "3020-01-04,{n}-u1,{n}-m1,view,",
        "2020-01-04,{n}-u1",
    ]
    folder = write(tmp_path, "mend", movies=[*MOVIES[:2], "{n}-m2,Two,V,"], events=broken_events)
    code, out, err = run(folder)
    assert code == 1
    for place in (
        "value left out: movies.csv:3: release_year: is no finite number: `V`",
        "row left out: events.csv:3: at: is no ISO date or time: `yesterday`",
        "value left out: events.csv:5: rating: is no finite number: `many`",
        "row left out: events.csv:6: user_id: user `mend-u3` is not in users.csv",
        "row left out: events.csv:7: what: is missing",
        "row left out: events.csv:8: what: no event type `shout`",
        "row left out: events.csv:9: at: lies in the future: `3020-01-04`",
        "row left out: events.csv:10: 2 cells, but the header has 5",
        "6 rows and 2 single values were left out; mend them and import again",
    ):
        assert place in err
    assert len(err.strip().splitlines()) == 9
    assert loaded(out) == {"user": (2, 0), "movie": (2, 0), "user_movie": (3, 0)}
    assert stored(clients, "mend") == 3

    mended = [*EVENTS, "2020-01-04,{n}-u3,{n}-m1,view,"]
    write(folder, "mend", users=[*USERS, "{n}-u3,,"], events=mended, movies=[*MOVIES[:2], "{n}-m2,Two,1995,"])
    code, out, err = run(folder)
    assert (code, err) == (0, "")
    assert loaded(out) == {"user": (1, 2), "movie": (1, 1), "user_movie": (2, 3)}
    assert stored(clients, "mend") == 5
    assert loaded(run(folder)[1]) == {"user": (0, 3), "movie": (0, 2), "user_movie": (0, 5)}


def test_a_store_that_is_down_is_one_line(run: Run, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    code, _, err = run(write(tmp_path, "down"), "--feedback", address)
    assert code == 3
    assert err.strip() == f"no feedback_svc answers at {address}; is `up` running?"


def test_a_wrong_data_set_is_refused_with_every_fault(clients: Clients, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run(tmp_path / "empty")
    assert code == 2
    assert "dataset.toml" in err

    unknown = TOML.replace('id = "user_movie"', 'id = "user_film"') + "event_type = 3\n"
    code, _, err = run(write(tmp_path / "unknown", "unknown", toml=unknown))
    assert code == 2
    assert "dataset.toml: use_case.0.event_type" in err

    unknown = TOML.replace('id = "user_movie"', 'id = "user_film"').replace('"rating"', '"stars"')
    code, _, err = run(write(tmp_path / "unknown", "unknown", toml=unknown))
    assert code == 2
    assert "no use case `user_film`; there are:" in err

    wrong = TOML.replace('"at"', '"when"').replace('"release_year"', '"year"').replace('"title"', '"genres"')
    code, _, err = run(write(tmp_path / "wrong", "wrong", toml=wrong))
    assert code == 2
    assert "`year` is no feature of `movie`" in err
    assert "`genres` is multi in the use cases, not text" in err

    columns = TOML.replace('time = "at"', 'time = "when"').replace('value = "rating"', 'value = "stars"')
    code, _, err = run(
        write(tmp_path / "columns", "columns", toml=columns, users=["user_id,age", "{n}-u1,1"])
    )
    assert code == 2
    for fault in (
        "users.csv:1: column `occupation`",
        "events.csv:1: column `when`",
        "events.csv:1: column `stars`",
    ):
        assert f"{fault} is missing" in err
    assert stored(clients, "columns") == 0
