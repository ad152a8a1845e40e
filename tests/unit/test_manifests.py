"""Every supported combination of deploy/kustomize builds, is what Kubernetes takes, and is whole."""

from __future__ import annotations

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.manifests import COMBINATIONS, DEPLOY, Manifests, Workload, build, built
from training_jobs.config import Device, Engine, load_config

OLDEST, NEWEST = "1.30", "1.37"
"""Versions of Kubernetes whose schemas are asked."""
GROUPS_OF_OTHERS = ("monitoring.coreos.com/", "cert-manager.io/")
"""Kinds that others define: Kubernetes has no schema of them."""
GIVEN = {
    "matchloop-database": {"url"},
    "matchloop-tokens": {"tokens.toml"},
    "matchloop-client-tokens": {"candidate", "ranking", "jobs"},
}
"""Secrets that operators bring, and their keys; docs/install.md says how."""
MONITORING = DEPLOY / "kustomize" / "components" / "monitoring"
IMAGES_OF_OTHERS = {"postgres", "prom/pushgateway"}


@pytest.fixture(params=COMBINATIONS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return built(request.param)


def test_there_is_a_combination_for_every_component_and_overlay() -> None:
    folder = DEPLOY / "kustomize"
    told = " ".join(file.read_text() for file in folder.glob("*/*/kustomization.yaml"))
    for part in (*folder.glob("components/*/"), *folder.glob("overlays/*/")):
        assert f"{part.parent.name}/{part.name}\n" in told, part


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_it(manifests: Manifests, version: str) -> None:
    for each in manifests.objects:
        if not each["apiVersion"].startswith(GROUPS_OF_OTHERS):
            validate(json.dumps(each), version)


@cache
def validate(told: str, version: str) -> None:
    """Ask the schemas of a version, once for what combinations share."""
    kubernetes_validate.validate(json.loads(told), version, strict=True)


def test_nothing_is_there_twice(manifests: Manifests) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests.objects]
    assert len(names) == len(set(names))


def secrets_of(manifests: Manifests) -> dict[str, set[str]]:
    """Return the keys of every secret there will be: built, issued, or brought by the operator."""
    found = dict(GIVEN)
    for each in manifests.of_kind("Certificate").values():
        found[each["spec"]["secretName"]] = {"tls.crt", "tls.key", "ca.crt"}
    for name, each in manifests.of_kind("Secret").items():
        found[name] = {*each.get("data", {}), *each.get("stringData", {})}
        found.pop(re.sub(r"-[a-z0-9]{10}$", "", name), None)  # ours stands for the operator's
    return found


def test_every_reference_of_an_environment_is_held(manifests: Manifests) -> None:
    maps = {name: set(manifests.data(name)) for name in manifests.of_kind("ConfigMap")}
    held = {"configMapKeyRef": maps, "secretKeyRef": secrets_of(manifests)}
    for workload in manifests.workloads():
        for container in workload.containers:
            for source in container.get("envFrom", ()):
                assert source["configMapRef"]["name"] in maps, container["name"]
            for variable in container.get("env", ()):
                for kind, reference in variable.get("valueFrom", {}).items():
                    assert reference["key"] in held[kind][reference["name"]], variable["name"]


def sources_of(manifests: Manifests) -> dict[str, Any]:
    """Return what a volume may be made of, by kind and then name."""
    return {
        "configMap": manifests.of_kind("ConfigMap"),
        "persistentVolumeClaim": manifests.of_kind("PersistentVolumeClaim"),
        "secret": secrets_of(manifests),
    }


def test_every_volume_is_made_of_something_and_mounted(manifests: Manifests) -> None:
    sources = sources_of(manifests)
    for workload in manifests.workloads():
        volumes = {each["name"]: each for each in workload.pod["spec"].get("volumes", ())}
        for name, volume in volumes.items():
            ((kind, source),) = ((k, v) for k, v in volume.items() if k != "name")
            if kind != "emptyDir":
                named = source.get("name") or source.get("claimName") or source.get("secretName")
                assert named in sources[kind], f"{workload.name}: {name}"
            for item in source.get("items", ()):
                assert item["key"] in sources[kind][named]
        claims = {each["metadata"]["name"] for each in templates_of(manifests, workload)}
        mounted = {m["name"] for each in workload.containers for m in each.get("volumeMounts", ())}
        assert mounted == {*volumes, *claims}, workload.name


def templates_of(manifests: Manifests, workload: Workload) -> list[Any]:
    """Return the claims that a StatefulSet makes for each of its pods."""
    return list(manifests.of_kind(workload.kind)[workload.name]["spec"].get("volumeClaimTemplates", ()))


def ports_of(workload: Workload) -> dict[str, int]:
    """Return the ports of a pod by name."""
    return {p["name"]: p["containerPort"] for each in workload.containers for p in each.get("ports", ())}


def test_services_and_policies_lead_to_ports_of_pods(manifests: Manifests) -> None:
    workloads = list(manifests.workloads())

    def chosen(selector: dict[str, str]) -> list[Workload]:
        return [each for each in workloads if selector.items() <= each.labels.items()]

    for service in manifests.of_kind("Service").values():
        (workload,) = chosen(service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            assert ports_of(workload)[port["targetPort"]] == port["port"]
    for policy in manifests.of_kind("NetworkPolicy").values():
        for workload in chosen(policy["spec"]["podSelector"].get("matchLabels", {})):
            for rule in policy["spec"].get("ingress", ()):
                assert {port["port"] for port in rule["ports"]} <= set(ports_of(workload)), workload.name


def test_budgets_scalers_and_monitors_find_what_they_are_for(manifests: Manifests) -> None:
    labels = [each.labels for each in manifests.workloads()]
    for budget in manifests.of_kind("PodDisruptionBudget").values():
        selector = budget["spec"]["selector"]["matchLabels"]
        assert sum(selector.items() <= each.items() for each in labels) == 1
    for scaler in manifests.of_kind("HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        assert target["name"] in manifests.of_kind(target["kind"])
    for monitor in manifests.of_kind("ServiceMonitor").values():
        (port,) = {each["port"] for each in monitor["spec"]["endpoints"]}
        services = monitored(manifests, monitor["spec"]["selector"])
        assert services
        assert all(port in {p["name"] for p in each["spec"]["ports"]} for each in services)


def monitored(manifests: Manifests, selector: dict[str, Any]) -> list[Any]:
    """Return the Services that a ServiceMonitor's selector chooses."""
    names = {name for each in selector.get("matchExpressions", ()) for name in each["values"]}
    names |= set(selector.get("matchLabels", {}).values())
    found = manifests.of_kind("Service").values()
    chosen = [s for s in found if s["metadata"].get("labels", {}).get("app.kubernetes.io/name") in names]
    assert len(chosen) == len(names)
    return chosen


def test_addresses_name_a_service_and_its_port(manifests: Manifests) -> None:
    services = manifests.of_kind("Service")
    known = {f"{name}:{port['port']}" for name, each in services.items() for port in each["spec"]["ports"]}
    told = str([each for each in manifests.objects if each["kind"] in ("ConfigMap", "CronJob")])
    addresses = set(re.findall(r"(?:///|http://)(matchloop-[a-z]+:\d+)", told))
    assert addresses >= {"matchloop-feedback:7301", "matchloop-candidate:7302", "matchloop-mlflow:5000"}
    assert addresses <= known


def test_accounts_are_there_and_get_no_token(manifests: Manifests) -> None:
    accounts = manifests.of_kind("ServiceAccount")
    assert not any(each["automountServiceAccountToken"] for each in accounts.values())
    for workload in manifests.workloads():
        spec = workload.pod["spec"]
        assert spec.get("serviceAccountName", "matchloop-jobs") in accounts
        assert spec["automountServiceAccountToken"] is False, workload.name


def test_no_container_may_more_than_it_needs(manifests: Manifests) -> None:
    for workload in manifests.workloads():
        pod = workload.pod["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True, workload.name
        assert pod["runAsUser"] > 0, workload.name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, workload.name
        for container in workload.containers:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, container["name"]
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), container["name"]
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), container["name"]


def test_a_pod_is_given_the_time_to_drain(manifests: Manifests) -> None:
    for part in ("feedback", "candidate", "ranking"):
        workload = manifests.workload(f"matchloop-{part}")
        environment = manifests.environment(workload.containers[-1], _Anything())
        drain = sum(float(environment[f"{part.upper()}_{of}_SECONDS"]) for of in ("GRACE", "LINGER"))
        assert workload.pod["spec"]["terminationGracePeriodSeconds"] >= drain + 10


class _Anything(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        return _Anything()


def test_the_operator_gets_the_rules_that_prometheus_gets() -> None:
    written = runpy.run_path(str(MONITORING / "write_rules.py"))
    assert (MONITORING / "rules.yaml").read_text() == written["operator_rules"](), "run write_rules.py"
    rules = built("prod-monitored").of_kind("PrometheusRule")
    assert set(rules) == {"matchloop-alerts", "matchloop-rules"}
    for rule in rules.values():
        groups = [group["name"] for group in rule["spec"]["groups"]]
        assert len(groups) == len(set(groups))


def test_grafana_gets_every_dashboard() -> None:
    given = built("prod-monitored").data("matchloop-dashboards")
    assert set(given) == {file.name for file in (DEPLOY / "grafana").glob("*.json")}


def test_images_are_built_here_or_pinned(manifests: Manifests) -> None:
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM .* AS (\S+)$", dockerfile, re.MULTILINE))
    for workload in manifests.workloads():
        for container in workload.containers:
            name, _, tag = container["image"].rpartition(":")
            assert name.removeprefix("matchloop-") in targets or name in IMAGES_OF_OTHERS, name
            assert re.match(r"v?\d", tag), container["image"]


@pytest.mark.parametrize("combination", ["prod-gpu", "prod-spark"])
def test_a_retraining_computes_where_the_component_says(combination: str) -> None:
    manifests = built(combination)
    (container,) = manifests.workload("matchloop-retrain-reverse").containers
    environment = manifests.environment(container, _Anything())
    device, engine = (environment.get(f"MATCHLOOP_{of}") for of in ("DEVICE", "ENGINE"))
    settings = load_config("default").on(Engine(engine) if engine else None, Device(device or "auto"))
    assert settings.two_tower.device is settings.ranker.device is Device.CUDA
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert (settings.dataset.engine is Engine.SPARK) == (combination == "prod-spark")


def test_spark_finds_its_settings_and_its_disk() -> None:
    manifests = built("prod-spark")
    (container,) = manifests.workload("matchloop-retrain-forward").containers
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    told = dict(
        line.split() for line in manifests.data("matchloop-spark")["spark-defaults.conf"].splitlines()
    )
    assert manifests.environment(container, _Anything())["SPARK_CONF_DIR"] in mounts
    assert told["spark.local.dir"] in mounts


def test_connections_to_the_database_stay_under_its_limit() -> None:
    manifests = built("prod")
    most = manifests.of_kind("HorizontalPodAutoscaler")["matchloop-feedback"]["spec"]["maxReplicas"]
    environment = manifests.environment(manifests.workload("matchloop-feedback").containers[-1], _Anything())
    assert int(environment["FEEDBACK_THREADS"]) * most <= 80  # of PostgreSQL's 100: jobs and people too


def test_a_use_case_more_is_a_folder_more(tmp_path: Path) -> None:
    """What forward/kustomization.yaml says of itself."""
    base = DEPLOY / "kustomize" / "base"
    folder = tmp_path / "base"
    for file in (f for f in base.rglob("*") if f.is_file()):
        target = folder / file.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.read_text().replace("  - reverse\n", "  - reverse\n  - films\n"))
    copied = (base / "forward" / "kustomization.yaml").read_text()
    (folder / "films").mkdir()
    (folder / "films" / "kustomization.yaml").write_text(
        copied.replace("-forward", "-films").replace("investor_startup", "user_movie")
    )
    manifests = Manifests(build(folder))
    assert {f"matchloop-{job}-films" for job in ("retrain", "monitor", "drift")} <= set(
        manifests.of_kind("CronJob")
    )
    films = manifests.workload("matchloop-retrain-films")
    assert manifests.environment(films.containers[0], _Anything())["USE_CASE"] == "user_movie"
