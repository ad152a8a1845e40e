"""What goes into the images: what the Dockerfile, compose and pyproject.toml say of it fits together."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import pytest
import yaml

from benchmarks.packages import BARRED, IMAGES, SERVING, asked_for, closure, sizes
from candidate_svc.settings import CandidateSettings
from feedback_svc.settings import FeedbackSettings
from matchloop.rpc.credentials import ClientSettings
from matchloop.rpc.settings import ServerSettings, read_settings
from ranking_svc.settings import RankingSettings
from tests.deployed import Secrets
from tests.manifests import COMBINATIONS, DEPLOY, built

DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text()
SETTINGS: dict[str, type[ServerSettings]] = {
    "feedback": FeedbackSettings,
    "candidate": CandidateSettings,
    "ranking": RankingSettings,
}


@pytest.mark.parametrize("image", SERVING)
def test_a_serving_image_holds_nothing_of_training(image: str) -> None:
    found = sizes(image)
    assert not set(BARRED) & set(found)
    assert sum(found.values()) < 600e6


def test_the_measure_sees_what_is_there() -> None:
    assert set(BARRED) <= set(closure(asked_for("training")))
    assert {"sqlalchemy", "pandas"} <= set(closure(["mlflow"]))


def stages() -> dict[str, str]:
    """Return the Dockerfile's stages by name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_an_image_installs_its_extras_and_runs_as_nobody() -> None:
    for image, extras in IMAGES.items():
        stage = stages()
        assert f"'.[{','.join(extras)}]'" in stage[f"{image}-packages"]
        assert f"--from={image}-packages" in stage[image]
        assert "HEALTHCHECK" in stage[image]
        assert "USER root" not in stage[image].rpartition("USER 10001:10001")[2]
    assert "USER 10001:10001" in stages()["base"]
    assert "postgresql-client" in stages()["feedback"]


def test_every_command_of_the_dockerfile_is_a_module() -> None:
    modules = re.findall(r'"-m", "([\w.]+)"', DOCKERFILE)
    assert set(modules) >= {"feedback_svc", "candidate_svc", "ranking_svc", "matchloop.rpc.probe", "mlflow"}
    assert all(find_spec(module) for module in modules)


def test_what_is_copied_into_the_builder_is_all_there_is_to_install() -> None:
    copied = set(re.findall(r"^COPY (\w+) \w+$", stages()["builder"], re.MULTILINE))
    assert copied == {"matchloop", "feedback_svc", "candidate_svc", "ranking_svc", "training_jobs"}
    ignored = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)


COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_builds_from_targets_and_refers_to_what_it_has() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" in service:
            assert service["build"]["target"] in IMAGES, name
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"]), name
        named = {volume.partition(":")[0] for volume in service.get("volumes", ()) if volume[0] not in "./"}
        assert named <= set(COMPOSE["volumes"]), name
        for bound in (volume.partition(":")[0] for volume in service.get("volumes", ()) if volume[0] == "."):
            assert (DEPLOY / bound).resolve().parent.exists(), name


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_kubernetes_gives_services_settings_that_they_take(
    combination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = built(combination)
    secrets = Secrets({"matchloop-database": {"url": "postgresql://somewhere/matchloop"}})
    for part in SETTINGS:
        (container,) = manifests.workload(f"matchloop-{part}").pod["spec"]["containers"]
        _read(part, manifests.environment(container, secrets), monkeypatch)


def test_compose_gives_services_settings_that_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in SETTINGS:
        _read(part, COMPOSE["services"][f"matchloop-{part}"]["environment"], monkeypatch)


def _read(part: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read settings as a service does, and as its clients do; variables that are none are refused."""
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        assert read_settings(SETTINGS[part]).host == "0.0.0.0"
        read_settings(ClientSettings)
