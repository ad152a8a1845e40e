"""The registry on MLflow: a SQLite file on a laptop, a tracking server in a cluster."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from matchloop.errors import NotFound, Reason, Unavailable
from matchloop.release.file_changes import WhileUnchanged
from matchloop.release.manifest import MANIFEST_FILE, Manifest
from matchloop.release.registry import (
    RegisteredRelease,
    check_before_register,
    place_verified,
    read_manifest,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT_FOLDER = "release"
TAG_PREFIX = "matchloop."
RELEASE_TAG = TAG_PREFIX + "release"

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Set before MLflow is imported, unless the environment says otherwise: no telemetry, progress bars, chatter;
and an unreachable server is noticed in seconds, since a slot asks again anyway."""


def quiet_mlflow() -> None:
    """Silence MLflow: call before its first import. Does not import it."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)


class MlflowRegistry:
    """`Registry` on MLflow.

    Nothing is imported, opened or created before the first call; and as long as only reading was asked,
    no database is created where there is none.

    Parameters
    ----------
    uri
        Tracking and registry in one: ``sqlite:///path/to/mlflow.db`` or ``http(s)://server``.
    artifacts
        Where runs of `experiment_id` keep their files; default: ``artifacts`` beside the SQLite file,
        the server's choice for a server.
    """

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        self.uri = uri
        self._database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
        if artifacts is None and self._database:
            artifacts = (self._database.absolute().parent / "artifacts").as_uri()
        self._artifacts = artifacts
        # A look costs milliseconds; whoever polls a file that nobody wrote to need not pay them.
        self._changes: WhileUnchanged[Mapping[str, Mapping[str, str]]] | None = None
        if self._database:
            journals = [self._database.with_name(self._database.name + end) for end in ("-wal", "-journal")]
            self._changes = WhileUnchanged([self._database, *journals])
        self._client: MlflowClient | None = None
        self._lock = Lock()

    def experiment_id(self, use_case: str) -> str:
        """Return the id of the use case's experiment, ``matchloop/<use case>``, made if missing."""
        name = f"matchloop/{use_case}"
        with self._reached() as client:
            found = client.get_experiment_by_name(name)
            if found is not None:
                return str(found.experiment_id)
            location = f"{self._artifacts.rstrip('/')}/{use_case}" if self._artifacts else None
            return str(client.create_experiment(name, artifact_location=location))

    def register(
        self, folder: Path, use_case: str, *, run_id: str | None, metrics: Mapping[str, float]
    ) -> RegisteredRelease:
        """See `Registry`."""
        manifest = check_before_register(folder, use_case)
        for known in self.list(use_case):
            if known.release == manifest.release:
                return known
        own_run = run_id is None
        experiment = self.experiment_id(use_case) if own_run else None
        with self._reached() as client:
            run = (
                client.create_run(experiment, run_name=manifest.release)
                if own_run
                else client.get_run(run_id)
            )
            identity = run.info.run_id
            for name, value in metrics.items():
                client.log_metric(identity, name, value)
            client.log_artifacts(identity, str(folder), ARTIFACT_FOLDER)
            if own_run:
                client.set_terminated(identity)
            if not client.search_registered_models(f"name = '{use_case}'", max_results=1):
                client.create_registered_model(use_case)
            version = client.create_model_version(
                use_case,
                source=f"{run.info.artifact_uri.rstrip('/')}/{ARTIFACT_FOLDER}",
                run_id=identity,
                tags={RELEASE_TAG: manifest.release},
            )
        return _registered(version)

    def set_alias(self, use_case: str, alias: str, version: str) -> None:
        """See `Registry`."""
        with self._reached() as client:
            _check_version(client, use_case, version)
            client.set_registered_model_alias(use_case, alias, version)

    def drop_alias(self, use_case: str, alias: str) -> None:
        """See `Registry`."""
        if self.resolve(use_case, alias) is not None:
            with self._reached() as client:
                client.delete_registered_model_alias(use_case, alias)

    def tag(self, use_case: str, version: str, tags: Mapping[str, str]) -> None:
        """See `Registry`; MLflow shows them as ``matchloop.<name>``."""
        with self._reached() as client:
            _check_version(client, use_case, version)
            for name, value in tags.items():
                client.set_model_version_tag(use_case, version, TAG_PREFIX + name, value)

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        """See `Registry`."""
        if self.unmade():
            return None
        with self._reached() as client:
            models = client.search_registered_models(f"name = '{use_case}'", max_results=1)
            if not models or alias not in models[0].aliases:
                return None
            return _registered(client.get_model_version(use_case, models[0].aliases[alias]))

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """See `Registry`."""
        if self.unmade():
            return {}
        return self._read_aliases() if self._changes is None else self._changes.read(self._read_aliases)

    def _read_aliases(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, dict[str, str]] = {}
        token: str | None = None
        with self._reached() as client:
            while True:
                page = client.search_registered_models(page_token=token)
                found |= {
                    model.name: {alias: str(version) for alias, version in model.aliases.items()}
                    for model in page
                }
                token = page.token
                if not token:
                    return found

    def fetch(self, registered: RegisteredRelease, destination: Path) -> Path:
        """See `Registry`."""

        def download(folder: Path) -> Path:
            with self._reached():
                import mlflow.artifacts

                return Path(
                    mlflow.artifacts.download_artifacts(
                        artifact_uri=registered.source, dst_path=str(folder), tracking_uri=self.uri
                    )
                )

        return place_verified(registered, destination, download)

    def manifest(self, registered: RegisteredRelease) -> Manifest:
        """See `Registry`."""
        with tempfile.TemporaryDirectory(prefix="matchloop-manifest-") as folder:
            with self._reached():
                import mlflow.artifacts

                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{registered.source.rstrip('/')}/{MANIFEST_FILE}",
                    dst_path=folder,
                    tracking_uri=self.uri,
                )
            return read_manifest(registered, Path(folder))

    def list(self, use_case: str) -> tuple[RegisteredRelease, ...]:
        """See `Registry`."""
        if self.unmade():
            return ()
        with self._reached() as client:
            models = client.search_registered_models(f"name = '{use_case}'", max_results=1)
            if not models:
                return ()
            versions = _versions(client, f"name = '{use_case}'")
            found = [_registered(version, models[0].aliases) for version in versions]
        return tuple(sorted(found, key=lambda release: int(release.version), reverse=True))

    def use_cases(self) -> tuple[str, ...]:
        """See `Registry`; models that MLflow holds for others are none of ours."""
        if self.unmade():
            return ()
        with self._reached() as client:
            ours = _versions(client, f"tag.`{RELEASE_TAG}` LIKE '%'")
            return tuple(sorted({version.name for version in ours}))

    def unmade(self) -> bool:
        """Whether there is no database yet, and so no release."""
        return self._database is not None and not self._database.exists()

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        """Give the client; what goes wrong at MLflow's comes out as Unavailable."""
        client = self._connect()
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except (MlflowException, OSError) as error:
            raise self._unavailable(error) from error

    def _connect(self) -> MlflowClient:
        with self._lock:
            if self._client is None:
                quiet_mlflow()
                try:
                    if self._database:
                        self._database.absolute().parent.mkdir(parents=True, exist_ok=True)
                    with self._alone(), warnings.catch_warnings(action="ignore"):  # deprecations of its own
                        from mlflow import MlflowClient

                        self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                except Exception as error:
                    raise self._unavailable(error) from error
            return self._client

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold off other processes: MLflow makes the tables of a new SQLite file as it connects."""
        if not self._database:
            yield
            return
        database = self._database.absolute()
        with database.with_name(f"{database.name}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
            yield

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"registry {self.uri}: {error}", reason=Reason.REGISTRY_UNAVAILABLE)


def _versions(client: Any, which: str) -> Iterator[Any]:
    """Yield every model version that a filter of MLflow's lets through."""
    token: str | None = None
    while True:
        page = client.search_model_versions(which, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _check_version(client: Any, use_case: str, version: str) -> None:
    query = f"name = '{use_case}' and version_number = {version}"
    if not version.isdecimal() or not client.search_model_versions(query):
        raise NotFound(f"no version {version} of {use_case} is registered", reason=Reason.RELEASE_NOT_FOUND)


def _registered(version: Any, aliases: Mapping[str, str] | None = None) -> RegisteredRelease:
    """Translate MLflow's model version; `aliases` (alias to version) where it does not bring its own."""
    own = (
        version.aliases
        if aliases is None
        else [name for name, target in aliases.items() if str(target) == str(version.version)]
    )
    return RegisteredRelease(
        use_case=version.name,
        release=version.tags.get(RELEASE_TAG, ""),
        version=str(version.version),
        source=version.source,
        run_id=version.run_id or None,
        aliases=tuple(sorted(own)),
        tags={
            name.removeprefix(TAG_PREFIX): value
            for name, value in version.tags.items()
            if name.startswith(TAG_PREFIX) and name != RELEASE_TAG
        },
    )
