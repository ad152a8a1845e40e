"""What `kubectl kustomize` makes of deploy/kustomize, and what its parts refer to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
COMBINATIONS = sorted(
    file.parent.name for file in (DEPLOY / "kustomize" / "combinations").glob("*/kustomization.yaml")
)
POD_PATHS = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where a workload keeps its pod, by kind."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes pods: its kind and name, and the pod, labels and all."""

    kind: str
    name: str
    pod: Object

    @property
    def containers(self) -> list[Object]:
        """Every container, those that run first, first."""
        return [*self.pod["spec"].get("initContainers", ()), *self.pod["spec"]["containers"]]

    @property
    def labels(self) -> Mapping[str, str]:
        """Of its pods."""
        return dict(self.pod["metadata"]["labels"])


class Manifests:
    """All objects of one combination."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of_kind(self, kind: str) -> dict[str, Object]:
        """Return the objects of a kind by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    def workloads(self) -> Iterator[Workload]:
        """Yield whatever makes pods."""
        for each in self.objects:
            if each["kind"] in POD_PATHS:
                pod = each
                for step in POD_PATHS[each["kind"]]:
                    pod = pod[step]
                yield Workload(each["kind"], each["metadata"]["name"], pod)

    def workload(self, name: str) -> Workload:
        """Return the one of this name."""
        return next(each for each in self.workloads() if each.name == name)

    def data(self, config_map: str) -> Mapping[str, str]:
        """Return what a ConfigMap holds."""
        return dict(self.of_kind("ConfigMap")[config_map].get("data", {}))

    def environment(self, container: Object, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """Return a container's variables as the kubelet would set them.

        Parameters
        ----------
        secrets
            What the secrets hold, by name and key.
        """
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self.data(source["configMapRef"]["name"])
        for variable in container.get("env", ()):
            found[variable["name"]] = self._value(variable, secrets)
        return found

    def _value(self, variable: Object, secrets: Mapping[str, Mapping[str, str]]) -> str:
        if "value" in variable:
            return str(variable["value"])
        ((kind, reference),) = variable["valueFrom"].items()
        held = {"configMapKeyRef": self.data, "secretKeyRef": secrets.__getitem__}[kind](reference["name"])
        return held[reference["key"]]


@cache
def built(combination: str) -> Manifests:
    """Build a combination; the test that asks is skipped where there is no kubectl."""
    return Manifests(build(DEPLOY / "kustomize" / "combinations" / combination))


def build(folder: Path) -> list[Object]:
    """Build a folder's kustomization."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no `kubectl`: install one of 1.27 or later; it needs no cluster for this")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecated fields are told there
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]  # the other takes seconds
