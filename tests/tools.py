"""Programs that tests run and that no Python package brings: found, or the test is skipped by name.

``python -m tests.tools`` fetches what is missing from Debian or Ubuntu into the environment's ``tools``
folder, without root; where that cannot be done it says so and nothing else changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-pushgateway": "prometheus-pushgateway",
}
"""The Debian package of every program."""
FOLDER = Path(sys.prefix) / "tools"
FETCH_SECONDS = 120.0


def find(name: str) -> Path | None:
    """Return where a program is: on the PATH, else where `fetch` puts it; None: nowhere."""
    path = os.pathsep.join((os.environ.get("PATH", ""), str(FOLDER / "usr" / "bin")))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def program(name: str) -> Path:
    """Return where a program is; the test that asks is skipped where it is not, saying what to install."""
    found = find(name)
    if found is None:
        pytest.skip(
            f"no `{name}`: install Debian's package `{PACKAGES[name]}`, or run `python -m tests.tools`"
        )
    return found


def fetch(package: str) -> str:
    """Unpack a package into `FOLDER`; return what went wrong, empty: nothing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            if _download(package, folder):
                told = _update(folder) or _download(package, folder, lists=folder)
                if told:
                    return told
            (file,) = Path(folder).glob("*.deb")
            return _told(["dpkg", "-x", str(file), str(FOLDER)], folder)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)


def _download(package: str, folder: str, lists: str = "") -> str:
    """Download with the machine's package lists, or with those that `_update` has put into `lists`."""
    return _told(["apt-get", *_private(lists), "-qq", "download", package], folder)


def _update(folder: str) -> str:
    """Read package lists into a folder: images of Debian ship without, and theirs are root's to write."""
    for state in ("lists/partial", "cache/archives/partial"):
        (Path(folder) / state).mkdir(parents=True)
    return _told(["apt-get", *_private(folder), "-qq", "update"], folder)


def _private(folder: str) -> list[str]:
    if not folder:
        return []
    return ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]


def _told(command: list[str], folder: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
    )
    return (done.stderr.strip() or f"{command[0]} failed") if done.returncode else ""


def main() -> None:
    """Fetch every program that is missing."""
    FOLDER.mkdir(exist_ok=True)
    for package in sorted({package for name, package in PACKAGES.items() if find(name) is None}):
        if told := fetch(package):
            sys.stderr.write(f"{package} not fetched, its tests will be skipped: {told.splitlines()[-1]}\n")


if __name__ == "__main__":
    main()
