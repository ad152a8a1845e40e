"""Importing a module opens, reads and starts nothing heavy: every module, in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

PROBE = """
import importlib, json, pkgutil, sys, threading, warnings
from pathlib import Path

warnings.simplefilter("ignore")
opened = []
watched = {"socket.bind", "socket.connect", "subprocess.Popen"}
sys.addaudithook(lambda event, args: opened.append(event) if event in watched else None)
packages = [importlib.import_module(name) for name in sys.argv[1:]]
modules = [
    found.name for each in packages for found in pkgutil.walk_packages(each.__path__, each.__name__ + ".")
]
for name in modules:
    if not name.endswith("migrations.env"):  # Alembic runs it; it is imported by nobody
        importlib.import_module(name)
print(json.dumps({
    "modules": modules,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "threads": [each.name for each in threading.enumerate() if each is not threading.main_thread()],
    "opened": opened,
}))
"""

TRAINING_ONLY = {"torch", "implicit", "optuna", "duckdb", "ibis", "matplotlib"}
SQL = {"sqlalchemy", "alembic", "psycopg2"}
ON_DEMAND = {"mlflow", "opentelemetry"}
SERVICES = {
    "matchloop": TRAINING_ONLY | SQL | {"mlflow"},  # its tracer, asked for by name, is OpenTelemetry's
    "feedback_svc": TRAINING_ONLY | ON_DEMAND | {"faiss", "onnxruntime"},
    "candidate_svc": TRAINING_ONLY | SQL | ON_DEMAND,
    "ranking_svc": TRAINING_ONLY | SQL | ON_DEMAND | {"faiss"},
}


def probe(*packages: str) -> dict[str, list[str]]:
    """Import every module of some packages in a new process; say what that did."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *packages], capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("package", SERVICES)
def test_importing_a_service_loads_nothing_heavy_and_starts_nothing(package: str) -> None:
    found = probe(package)
    assert len(found["modules"]) > 5
    assert SERVICES[package].isdisjoint(found["loaded"])
    assert found["threads"] == []
    assert found["opened"] == []


def test_importing_what_does_not_serve_starts_nothing() -> None:
    assert probe("training_jobs", "playground")["opened"] == []
