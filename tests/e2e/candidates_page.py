"""What docs/candidates.md tells to run, run as it is printed; the replies say what the page says they do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.trained import Trained
from tests.e2e.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "candidates.md"
BLOCK = re.compile(r"```sh\n(?P<command>.*?)```\n(?:```(?P<kind>json|text)\n(?P<reply>.*?)```\n)?", re.DOTALL)
BLOCKS = list(BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
CALL = 'call() { "$BUF" curl --protocol grpc --http2-prior-knowledge "$@"; }\n'


def run(trained: Trained, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the page against the stack."""
    addresses = trained.stack.addresses
    here = command.replace("127.0.0.1:7301", addresses.feedback).replace(
        "127.0.0.1:7302", addresses.candidate
    )
    return subprocess.run(
        ["bash", "-c", CALL + here],
        env={
            "BUF": str(Path(sys.executable).parent / "buf"),
            "PATH": "/usr/bin:/bin",
            "HOME": str(trained.stack.folder),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Give the paths of all that a reply says, contributions apart: which fields met is the market's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{at}.{name}"
            if name != "contributions":
                yield from paths(inner, f"{at}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")


def check(command: str, printed: dict[str, Any], told: dict[str, Any]) -> None:
    """Compare what does not depend on the market or on what a release learned of it."""
    assert set(paths(printed)) <= set(paths(told)), command
    assert printed.get("tier") == told.get("tier")
    assert printed.get("stored") == told.get("stored")
    if '"methods"' in command:
        assert printed.get("skipped") == told.get("skipped")
        assert printed["candidates"][0]["method"] == told["candidates"][0]["method"]
    for each in told.get("candidates", []):
        amounts = [part["amount"] for part in each.get("contributions", [])]
        if amounts and each["method"] == "METHOD_CONTENT":
            assert sum(amounts) == pytest.approx(each["score"], abs=1e-4)


def check_page(trained: Trained) -> None:
    """Run every command of the page; fail where the page is not true."""
    assert len(BLOCKS) >= 10
    for block in BLOCKS:
        command = block["command"]
        if block["kind"] == "text":
            failed = run(trained, command)
            assert failed.returncode
            assert all(line.strip() in failed.stderr for line in block["reply"].splitlines())
            continue
        done = run(trained, command)
        assert done.returncode == 0, done.stderr
        if block["kind"] == "json":
            printed = json.loads(block["reply"])
            if "hydrogen" in command:  # an item that was upserted a moment ago
                until(lambda: "fresh" in run(trained, command).stdout, "the new item")  # noqa: B023
                done = run(trained, command)
            check(command, printed, json.loads(done.stdout))
