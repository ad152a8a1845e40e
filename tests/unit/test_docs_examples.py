"""The examples in docs/ work as they are printed."""

import ast
import json
import re
from pathlib import Path

import pytest

from matchloop.errors import Reason
from matchloop.rpc.channel import service_config
from matchloop.rpc.status import CODES
from matchloop.usecase import load_use_cases
from playground.dataset import read_dataset

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)```\n", re.DOTALL)


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Write every file that a page shows, as it shows it."""
    for page in ("use-cases.md", "data-sets.md"):
        for block in BLOCK.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
            file = tmp_path / block["name"]
            file.parent.mkdir(exist_ok=True)
            file.write_text(block["text"], encoding="utf-8")
    return tmp_path


def test_the_use_case_of_the_page_loads(market: Path) -> None:
    use_case = load_use_cases(market / "use-cases")["student_course"]
    assert (use_case.subject, use_case.item) == ("student", "course")
    assert use_case.strong_events == {"save", "enrol"}


def test_the_data_set_of_the_page_reads_without_a_fault(market: Path) -> None:
    dataset = read_dataset(market / "data", load_use_cases(market / "use-cases"))
    assert dataset.faults == ()
    assert {kind: len(entities) for kind, entities in dataset.entities.items()} == {"student": 2, "course": 3}
    assert len(dataset.interactions("student_course")) == 3


def test_the_mistakes_of_the_page_are_told_as_printed(market: Path) -> None:
    events = market / "data" / "events.csv"
    events.write_text(events.read_text() + "s9,c1,enrol,2026-04-06\ns1,c1,enrol,yesterday\n")
    dataset = read_dataset(market / "data", load_use_cases(market / "use-cases"))
    page = (ROOT / "docs" / "data-sets.md").read_text(encoding="utf-8")
    assert len(dataset.faults) == 2
    assert all(f"left out: {fault}\n" in page for fault in dataset.faults)


def test_the_readme_s_script_is_whole() -> None:
    block = BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert block is not None
    ast.parse(block["text"])


def test_every_reason_is_told_with_its_code() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", page, re.MULTILINE))
    assert {reason.value for reason in Reason} <= told.keys()
    # Reasons that are a class's own have one code; the others are told by `UNAVAILABLE`'s and `NOT_FOUND`'s.
    own = {kind.reason.value: code.name for kind, code in CODES}
    assert {reason: told[reason] for reason in own} == own
    assert {told[f"{what}_NOT_FOUND"] for what in ("USE_CASE", "ENTITY", "SESSION", "RELEASE")} == {
        "NOT_FOUND"
    }
    assert {told[f"{what}_UNAVAILABLE"] for what in ("STORE", "UPSTREAM", "REGISTRY")} == {"UNAVAILABLE"}


def test_the_service_config_of_the_page_is_the_one_the_client_has() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    shown = {block["name"]: block["text"] for block in BLOCK.finditer(page)}
    services = re.findall(r'REPEATABLE = \("(\S+)", "(\S+)"\)', shown["client.py"])[0]
    assert json.loads(shown["service-config.json"]) == json.loads(service_config(services))


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "ARCHITECTURE.md",
        "docs/use-cases.md",
        "docs/data-sets.md",
        "docs/feedback.md",
        "docs/dislikes.md",
        "docs/candidates.md",
        "docs/off-policy.md",
        "docs/operate.md",
        "docs/secure.md",
        "docs/clients.md",
        "docs/scale.md",
        "docs/benchmarks.md",
        "docs/backup.md",
        "docs/traces.md",
        "docs/install.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [each for each in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in each]
    assert all(((ROOT / page).parent / target).exists() for target in targets)
