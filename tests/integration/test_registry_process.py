"""A registry asked by a process of its own: the same answers, and none that is waited for in vain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import psutil
import pytest

from matchloop.errors import Reason, ReleaseRefused, Unavailable
from matchloop.release import CHAMPION, MlflowRegistry, RegisteredRelease, RegistryProcess
from matchloop.release.registry_worker import NICENESS
from matchloop.testing.releases import build_release
from matchloop.usecase import load_use_cases
from tests.e2e.waiting import until

USE_CASE = load_use_cases()["user_movie"]

SERVICE = """
import sys, threading
from matchloop.release import RegistryProcess
registry = RegistryProcess(sys.argv[1])
asking = threading.Thread(target=registry.aliases)
asking.start()
while registry.pid is None:
    asking.join(0.01)
print(registry.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> MlflowRegistry:
    return MlflowRegistry(new_registry(tmp_path_factory.mktemp("registry")))


@pytest.fixture(scope="module")
def registered(jobs: MlflowRegistry, tmp_path_factory: pytest.TempPathFactory) -> RegisteredRelease:
    folder = build_release(tmp_path_factory.mktemp("built"), USE_CASE, release="r1")
    found = jobs.register(folder, USE_CASE.id, run_id=None, metrics={})
    jobs.set_alias(USE_CASE.id, CHAMPION, found.version)
    return found


@pytest.fixture(scope="module")
def registry(jobs: MlflowRegistry, registered: RegisteredRelease) -> Iterator[RegistryProcess]:
    opened = RegistryProcess(jobs.uri)
    yield opened
    opened.close()
    with pytest.raises(Unavailable):
        opened.aliases()


def test_it_answers_as_the_registry_does(
    registry: RegistryProcess, jobs: MlflowRegistry, registered: RegisteredRelease, tmp_path: Path
) -> None:
    assert registry.resolve(USE_CASE.id, CHAMPION) == jobs.resolve(USE_CASE.id, CHAMPION)
    assert registry.resolve(USE_CASE.id, "nobody") is None
    assert registry.aliases() == {USE_CASE.id: {CHAMPION: registered.version}}
    assert registry.list(USE_CASE.id) == jobs.list(USE_CASE.id)
    assert registry.use_cases() == (USE_CASE.id,)
    assert registry.manifest(registered) == jobs.manifest(registered)
    folder = registry.fetch(registered, tmp_path)
    assert folder == tmp_path / "r1"
    assert (folder / "golden.json").is_file()


def test_requests_go_before_it(registry: RegistryProcess) -> None:
    registry.aliases()
    assert registry.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, registry.pid) == NICENESS
    group = Path(f"/proc/{registry.pid}/autogroup")
    if group.is_file():  # where processes are grouped by session
        assert group.read_text(encoding="ascii").split()[-1] == str(NICENESS)


def test_a_damaged_release_is_refused(
    registry: RegistryProcess, registered: RegisteredRelease, tmp_path: Path
) -> None:
    golden = Path(urlparse(registered.source).path) / "golden.json"
    whole = golden.read_bytes()
    golden.write_bytes(whole + b" ")
    with pytest.raises(ReleaseRefused, match=r"golden\.json"):
        registry.fetch(registered, tmp_path)
    golden.write_bytes(whole)


def test_who_waits_for_a_process_that_dies_is_told_and_the_next_call_starts_another(
    registry: RegistryProcess, registered: RegisteredRelease
) -> None:
    registry.aliases()
    before = registry.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(registry.aliases)
        os.kill(before, signal.SIGKILL)
        error = waiting.exception(timeout=10.0)
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.REGISTRY_UNAVAILABLE
    until(lambda: registry.pid is None, "the process's end is seen")
    assert registry.aliases() == {USE_CASE.id: {CHAMPION: registered.version}}
    assert registry.pid not in (None, before)


def test_it_ends_with_a_service_that_is_killed_whatever_it_is_asked(
    jobs: MlflowRegistry, registered: RegisteredRelease
) -> None:
    call = [sys.executable, "-c", SERVICE, jobs.uri]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        worker = int(service.stdout.readline())
        assert psutil.pid_exists(worker)
        service.kill()
    until(lambda: not psutil.pid_exists(worker), "the worker's end")


def test_without_a_database_there_is_no_process(tmp_path: Path) -> None:
    registry = RegistryProcess(f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
    assert registry.aliases() == {}
    assert registry.resolve(USE_CASE.id, CHAMPION) is None
    assert registry.list(USE_CASE.id) == ()
    assert registry.use_cases() == ()
    assert registry.pid is None
    assert not (tmp_path / "none").exists()
