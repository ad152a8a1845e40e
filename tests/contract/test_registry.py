"""The registry's contract over the fake and over MLflow on SQLite."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import pytest

from matchloop.errors import Reason, Unavailable
from matchloop.release import MlflowRegistry, RegisteredRelease, Registry
from matchloop.testing.registries import FolderRegistry
from matchloop.testing.registry_contract import RegistryContract


def _append(golden: Path) -> None:
    golden.write_text(golden.read_text() + " ")


LOUD = """
import sys
from matchloop.release import MlflowRegistry
registry = MlflowRegistry("sqlite:///" + sys.argv[1])
registry.experiment_id("user_movie")
registry.resolve("user_movie", "champion")
"""


class TestFolderRegistry(RegistryContract):
    def make(self, folder: Path) -> Registry:
        return FolderRegistry(folder)

    def damage(self, registered: RegisteredRelease) -> None:
        _append(Path(registered.source) / "golden.json")

    def test_switched_off_is_unavailable(self, tmp_path: Path) -> None:
        registry = FolderRegistry(tmp_path)
        registry.available = False
        with pytest.raises(Unavailable):
            registry.resolve(self.use_case, "champion")


class TestMlflowRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path, new_registry: Callable[[Path], str]) -> Registry:
        new_registry(tmp_path / "registry")
        return self.make(tmp_path / "registry")

    def make(self, folder: Path) -> Registry:
        return MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}")

    def damage(self, registered: RegisteredRelease) -> None:
        _append(Path(urlparse(registered.source).path) / "golden.json")

    def test_reading_creates_no_database(self, tmp_path: Path) -> None:
        registry = MlflowRegistry(f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
        assert registry.resolve(self.use_case, "champion") is None
        assert registry.list(self.use_case) == ()
        assert registry.use_cases() == ()
        assert not (tmp_path / "none").exists()

    def test_a_damaged_database_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
        with pytest.raises(Unavailable) as caught:
            MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}").resolve(self.use_case, "champion")
        assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE

    def test_an_unreachable_server_is_unavailable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(Unavailable):
            MlflowRegistry("http://127.0.0.1:9").resolve(self.use_case, "champion")

    def test_it_is_quiet(self, tmp_path: Path) -> None:
        """In a process of its own, since MLflow talks when it is imported and when it makes its tables."""
        call = [sys.executable, "-c", LOUD, str(tmp_path / "mlflow.db")]
        done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True)
        assert (done.stdout, done.stderr) == ("", "")

    def test_it_is_quiet_about_releases(
        self, registry: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        registered = self.register(registry, tmp_path, "r1")
        registry.set_alias(self.use_case, "champion", registered.version)
        registry.fetch(registered, tmp_path / "cache")
        assert capfd.readouterr() == ("", "")

    def test_models_of_others_are_left_alone(self, registry: Registry, tmp_path: Path) -> None:
        from mlflow import MlflowClient

        assert isinstance(registry, MlflowRegistry)
        registered = self.register(registry, tmp_path, "r1")
        client = MlflowClient(tracking_uri=registry.uri)
        client.create_registered_model("theirs")
        client.create_model_version("theirs", source=registered.source)
        assert registry.use_cases() == (self.use_case,)

    def test_a_given_run_gets_files_and_metrics(self, registry: Registry, tmp_path: Path) -> None:
        from mlflow import MlflowClient

        assert isinstance(registry, MlflowRegistry)
        client = MlflowClient(tracking_uri=registry.uri)
        run = client.create_run(registry.experiment_id(self.use_case))
        registered = registry.register(
            self.release(tmp_path, "r1"), self.use_case, run_id=run.info.run_id, metrics={"ndcg": 0.5}
        )
        assert registered.run_id == run.info.run_id
        assert client.get_run(run.info.run_id).data.metrics == {"ndcg": 0.5}
