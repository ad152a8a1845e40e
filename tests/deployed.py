"""Runs the containers of a manifest as processes of this machine: their commands, in their environment.

What a cluster would bring is put in its place: addresses and ports of Services become free ones of the
loopback, volumes become folders, the database's URL a local PostgreSQL's. The rest is the manifest's: nothing
of this process's environment is handed on but the search paths.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from matchloop.rpc.probe import probe
from playground.processes import free_port, port_in_use
from tests.e2e.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.manifests import Manifests, Object, Workload

ROOT = Path(__file__).parents[1]
IMAGE = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
"""The environment of the images: see deploy/docker/Dockerfile."""
START_SECONDS = 120.0
JOB_SECONDS = 150.0
_EXPANDED = re.compile(r"\$\((\w+)\)")


class Secrets(dict[str, "Mapping[str, str]"]):
    """Secrets by name; with the hash that kustomize adds to those it makes, or without."""

    def __missing__(self, name: str) -> Mapping[str, str]:
        made = name.rpartition("-")[0]
        if not made:
            raise KeyError(name)
        return self[made]


@dataclass
class Deployed:
    """A combination that runs here.

    Parameters
    ----------
    folder
        For volumes and logs; short-lived.
    secrets
        What the manifest's secrets hold.
    instead
        Values of the manifest that this machine puts others in place of.
    """

    manifests: Manifests
    folder: Path
    secrets: Mapping[str, Mapping[str, str]]
    instead: Mapping[str, str] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ports: dict[int, int] = field(default_factory=dict)

    def port(self, port: int) -> int:
        """Return the port of this machine that stands for one of the manifest's."""
        if port not in self._ports:
            self._ports[port] = free_port()
        return self._ports[port]

    def serve(self, *names: str) -> None:
        """Start workloads, each with what runs before it, and wait until their readiness probes hold."""
        for name in names:
            workload = self.manifests.workload(name)
            for container in workload.pod["spec"].get("initContainers", ()):
                assert self.run(name, container["name"]) == 0, self.log(container["name"])
            (container,) = workload.pod["spec"]["containers"]
            self._running[name] = self._start(workload, container)
        for name in names:
            (container,) = self.manifests.workload(name).pod["spec"]["containers"]
            until(lambda n=name, c=container: self._ready(n, c), name, seconds=START_SECONDS)  # type: ignore[misc]

    def run(self, name: str, container: str | None = None) -> int:
        """Run a container to its end; return its exit code."""
        return self.begin(name, container).wait(JOB_SECONDS)

    def begin(self, name: str, container: str | None = None) -> subprocess.Popen[bytes]:
        """Start a container that ends by itself: the one of that name, else the one that runs last."""
        workload = self.manifests.workload(name)
        chosen = [each for each in workload.containers if container in (None, each["name"])]
        return self._start(workload, chosen[-1])

    def log(self, container: str) -> str:
        """Return what containers of this name printed."""
        return "".join(file.read_text() for file in sorted(self.folder.glob(f"*-{container}.log")))

    def stop(self) -> dict[str, int]:
        """Stop what serves, as the kubelet does; return exit codes by workload."""
        running, self._running = self._running, {}
        for process in running.values():
            process.terminate()
        return {name: self._ended(name, process) for name, process in running.items()}

    def _ended(self, name: str, process: subprocess.Popen[bytes]) -> int:
        grace = self.manifests.workload(name).pod["spec"].get("terminationGracePeriodSeconds", 30)
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def _start(self, workload: Workload, container: Object) -> subprocess.Popen[bytes]:
        folders = self._mounts(workload, container)
        environment = {**IMAGE, **self.manifests.environment(container, self.secrets)}
        words = [*container["command"], *container.get("args", ())]
        told = [_EXPANDED.sub(lambda m: environment[m[1]], word) for word in words]
        assert told[0] == "python"
        here = {name: self._here(value, folders) for name, value in environment.items()}
        with (self.folder / f"{workload.name}-{container['name']}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *(self._here(word, folders) for word in told[1:])],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": here["HOME"], **here},
                cwd=here["HOME"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _here(self, value: str, folders: Mapping[str, Path]) -> str:
        """Return a value of the manifest as it has to be on this machine."""
        if value in self.instead:
            return self.instead[value]
        for path in sorted(folders, key=len, reverse=True):
            value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", str(folders[path]), value)
        value = re.sub(
            r"matchloop-[a-z]+:(\d+)|localhost:(\d+)",
            lambda m: f"127.0.0.1:{self.port(int(m[1] or m[2]))}",
            value.replace("0.0.0.0", "127.0.0.1"),
        )
        return re.sub(r"^((?:--port=)?)(\d{4})$", lambda m: f"{m[1]}{self.port(int(m[2]))}", value)

    def _mounts(self, workload: Workload, container: Object) -> dict[str, Path]:
        """Make a container's volumes; return their folders by where they are mounted."""
        volumes = {each["name"]: each for each in workload.pod["spec"].get("volumes", ())}
        found = {}
        for mount in container.get("volumeMounts", ()):
            volume = volumes.get(mount["name"], {})
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            folder = self.folder / "volumes" / (claim or f"{workload.name}-{mount['name']}")
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in self._held(volume).items():
                (folder / name).write_text(text)
            found[mount["mountPath"]] = folder
        return found

    def _held(self, volume: Object) -> Mapping[str, str]:
        """Return the files that a volume comes with."""
        if "configMap" in volume:
            return self.manifests.data(volume["configMap"]["name"])
        if "secret" not in volume:
            return {}
        held, items = self.secrets[volume["secret"]["secretName"]], volume["secret"].get("items")
        return held if items is None else {item["path"]: held[item["key"]] for item in items}

    def _ready(self, name: str, container: Object) -> bool:
        code = self._running[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log(container['name'])}"
        return self.probed(name, "readinessProbe")

    def probed(self, name: str, which: str) -> bool:
        """Ask what a probe of the kubelet asks."""
        workload = self.manifests.workload(name)
        (container,) = workload.pod["spec"]["containers"]
        asked = container[which]
        if "httpGet" in asked:
            return _answers(self.port(5000), asked["httpGet"]["path"])
        if not port_in_use(self.port(container["ports"][0]["containerPort"])):
            return False  # not worth a process or a channel
        if "exec" in asked:
            return self._start(workload, {**container, **asked["exec"], "args": []}).wait(60) == 0
        return (
            probe(f"127.0.0.1:{self.port(asked['grpc']['port'])}", asked["grpc"].get("service", ""))
            == "SERVING"
        )


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
