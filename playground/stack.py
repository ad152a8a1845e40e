"""The whole of matchloop on one machine: embedded PostgreSQL and the three services as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matchloop.errors import Conflict, Unavailable
from playground.clients import Addresses, Clients
from playground.postgres import EmbeddedPostgres
from playground.processes import ServiceProcess, free_port, port_in_use

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from matchloop.rpc.credentials import ClientCredentials
    from playground.local_security import LocalSecurity


PARTS = ("PostgreSQL", "candidate_svc", "ranking_svc", "feedback_svc")
"""What a stack is made of, in the order in which it is started; any order will do."""


class StartGivenUp(Exception):  # noqa: N818 - it was asked for
    """The start was broken off because somebody asked for it; nothing of it runs any more."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of the services."""

    feedback: int = 7301
    candidate: int = 7302
    ranking: int = 7300

    def all(self) -> tuple[int, ...]:
        """Return every port."""
        return (self.feedback, self.candidate, self.ranking)

    @classmethod
    def free(cls) -> Ports:
        """Return three ports that nothing listens on right now."""
        return cls(feedback=free_port(), candidate=free_port(), ranking=free_port())


class Stack:
    """Everything that serves, in one folder; started and stopped together.

    Parameters
    ----------
    folder
        Holds the database, the registry, caches, the spool and the logs; made when it is not there, and
        started again with what it holds.
    ports
        Where the services listen.
    use_case_folders
        Folders with more use cases (TOML files).
    poll_seconds
        How often services look for catalogue changes and new releases.
    security
        Certificates and tokens; None: whoever is on this machine may call.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ports: Ports | None = None,
        use_case_folders: tuple[Path, ...] = (),
        poll_seconds: float = 1.0,
        security: LocalSecurity | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._ports = ports or Ports()
        self._use_case_folders = use_case_folders
        self._poll_seconds = poll_seconds
        self._security = security
        self._credentials: ClientCredentials | None = None
        self._postgres = EmbeddedPostgres(self.folder / "postgres")
        self._extra: list[ServiceProcess] = []
        self.feedback: ServiceProcess | None = None
        self.candidate: ServiceProcess | None = None
        self.ranking: ServiceProcess | None = None

    @property
    def registry_uri(self) -> str:
        """The MLflow tracking and registry store: a SQLite file in the folder."""
        return f"sqlite:///{self.folder / 'mlflow' / 'mlflow.db'}"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the running database."""
        return self._postgres.url()

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The database's server."""
        return self._postgres

    @property
    def addresses(self) -> Addresses:
        """Where the services listen."""
        ports = self._ports
        return Addresses(
            **{name: f"127.0.0.1:{getattr(ports, name)}" for name in ("feedback", "candidate", "ranking")}
        )

    def start(self, *, give_up: Callable[[], bool] = lambda: False) -> Stack:
        """Start the database, migrate it, start the services, wait until each serves.

        candidate_svc and ranking_svc import while the database is migrated: both wait for feedback_svc by
        themselves.

        Parameters
        ----------
        give_up
            Asked between the steps and while waiting; true breaks the start off.

        Raises
        ------
        Conflict
            A port is taken; names every one.
        Unavailable
            A part did not come up; with the end of its log.
        StartGivenUp
            As `give_up` wished.
        """
        taken = [str(port) for port in self._ports.all() if port_in_use(port)]
        if taken:
            raise Conflict(f"ports in use already: {', '.join(taken)}; is another `up` running?")
        (self.folder / "mlflow").mkdir(parents=True, exist_ok=True)
        try:
            self._start_all(give_up)
        except BaseException:
            self.stop()
            raise
        return self

    def _start_all(self, give_up: Callable[[], bool]) -> None:
        self._secure()
        for part in PARTS:
            if part == "feedback_svc":
                self.migrate()
            self.start_part(part)
            if give_up():
                raise StartGivenUp
        for service in (self.feedback, self.candidate, self.ranking):
            assert service is not None
            if not service.wait_serving(give_up=give_up):
                raise StartGivenUp

    def _secure(self) -> None:
        if self._security is not None:
            self._security.make()
            self._credentials = self._security.credentials()

    def start_part(self, part: str) -> None:
        """Start one of `PARTS`; a service is not waited for."""
        if part == "PostgreSQL":
            self._postgres.start()
        elif part == "candidate_svc":
            self.candidate = self._candidate(self._ports, alias="champion")
        elif part == "ranking_svc":
            self.ranking = self._ranking(self._ports, alias="champion")
        else:
            settings = {"DATABASE_URL": self.database_url}
            self.feedback = self._service("feedback_svc", self._ports.feedback, settings)

    def migrate(self) -> None:
        """Bring the database's tables to the newest version."""
        done = subprocess.run(
            [sys.executable, "-m", "feedback_svc.migrate"],
            env={**os.environ, "FEEDBACK_DATABASE_URL": self.database_url},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # Ctrl-C lets it finish
        )
        if done.returncode:
            raise Unavailable(f"migration failed:\n{done.stderr[-2000:]}")

    def start_pair(self, alias: str) -> Addresses:
        """Start another candidate_svc and ranking_svc that follow the registry's `alias`; return where."""
        ports = replace(Ports.free(), feedback=self._ports.feedback)
        self._extra += [self._candidate(ports, alias=alias), self._ranking(ports, alias=alias)]
        for service in self._extra:
            service.wait_serving()
        return replace(
            self.addresses, candidate=f"127.0.0.1:{ports.candidate}", ranking=f"127.0.0.1:{ports.ranking}"
        )

    def port_of(self, service: str) -> int:
        """Return where a service of `PARTS` listens."""
        port: int = getattr(self._ports, service.removesuffix("_svc"))
        return port

    def clients(self) -> Clients:
        """Return stubs of the services."""
        return Clients(self.addresses, credentials=self._credentials)

    def dead(self) -> list[str]:
        """Name the services that were started and have ended, PostgreSQL too."""
        ended = [service.name for service in self._running_order() if not service.running]
        return ended if self._postgres.pid else [*ended, "PostgreSQL"]

    def stop(self) -> dict[str, int]:
        """Stop in the order of the request's path, the database last; return exit codes by service."""
        codes = {f"{service.name}:{service.port}": service.stop() for service in self._running_order()}
        self._extra, self.feedback, self.candidate, self.ranking = [], None, None, None
        self._postgres.stop()
        return codes

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running_order(self) -> list[ServiceProcess]:
        rankers = [service for service in self._extra if service.name == "ranking_svc"]
        others = [service for service in self._extra if service.name != "ranking_svc"]
        own = [self.ranking, *rankers, self.candidate, *others, self.feedback]
        return [service for service in own if service is not None]

    def _candidate(self, ports: Ports, *, alias: str) -> ServiceProcess:
        own = {
            "POLL_SECONDS": str(self._poll_seconds),
            "CACHE_FOLDER": str(self.folder / "candidate" / alias),
        }
        return self._service("candidate_svc", ports.candidate, self._following(alias) | own)

    def _ranking(self, ports: Ports, *, alias: str) -> ServiceProcess:
        own = {
            "CANDIDATE_ADDRESS": f"127.0.0.1:{ports.candidate}",
            "STATE_FOLDER": str(self.folder / "ranking" / alias),
        }
        return self._service("ranking_svc", ports.ranking, self._following(alias) | own)

    def _following(self, alias: str) -> dict[str, str]:
        return {
            "REGISTRY_URI": self.registry_uri,
            "RELEASE_ALIAS": alias,
            "RELEASE_POLL_SECONDS": str(self._poll_seconds),
            "FEEDBACK_ADDRESS": self.addresses.feedback,
        }

    def _service(self, name: str, port: int, settings: dict[str, str]) -> ServiceProcess:
        """Start a service with these settings beside those that all have."""
        prefix = name.removesuffix("_svc").upper()
        folders = os.pathsep.join(str(folder) for folder in self._use_case_folders)
        whole = {**settings, "PORT": str(port), "USE_CASE_FOLDERS": folders}
        calling: dict[str, str] = {}
        if self._security is not None:
            whole |= self._security.serving(name)
            calling = self._security.calling(name)
        service = ServiceProcess(
            name=name,
            port=port,
            environment={f"{prefix}_{key}": value for key, value in whole.items()} | calling,
            log=self.folder / "logs" / f"{name}-{port}.log",
            credentials=self._credentials,
        )
        service.start()
        return service
