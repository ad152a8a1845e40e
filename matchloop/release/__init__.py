"""Releases: manifest, golden requests, registry, and the slot a service reads them from."""

from matchloop.release.golden import GoldenCase, check_golden, write_golden
from matchloop.release.manifest import Manifest, SnapshotReference, verify
from matchloop.release.mlflow_registry import MlflowRegistry
from matchloop.release.registry import CHALLENGER, CHAMPION, RegisteredRelease, Registry, RegistryReader
from matchloop.release.registry_process import RegistryProcess
from matchloop.release.slot import Loaded, Poll, ReleaseMetrics, ReleaseSlot

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "GoldenCase",
    "Loaded",
    "Manifest",
    "MlflowRegistry",
    "Poll",
    "RegisteredRelease",
    "Registry",
    "RegistryProcess",
    "RegistryReader",
    "ReleaseMetrics",
    "ReleaseSlot",
    "SnapshotReference",
    "check_golden",
    "verify",
    "write_golden",
]
