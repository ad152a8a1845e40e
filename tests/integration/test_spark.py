"""Spark does what DuckDB and `implicit` do: data sets row for row, releases' keys, factors as good."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from matchloop.errors import NotEquipped
from matchloop.snapshot import Snapshot
from matchloop.testing.worlds import checkerboard
from tests.integration.spark_world import everything
from tests.unit.training_worlds import INVESTORS, TAKEN, of_checkerboard
from training_jobs import datasets
from training_jobs.__main__ import app
from training_jobs.build import build_datasets
from training_jobs.config import AlsConfig, AlsLibrary, AlsTrial, DatasetConfig, Engine, TrainingConfig
from training_jobs.datasets.engine import connect
from training_jobs.datasets.examination import explored_items
from training_jobs.datasets.tables import open_tables, reactions
from training_jobs.evaluate import truth_of
from training_jobs.material import Material
from training_jobs.recipes.als import train_als
from training_jobs.scoring import Known, als_top

pytestmark = [
    pytest.mark.timeout(300),
    # PySpark leaves closing the sockets that results come through to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.skipif(shutil.which("java") is None, reason="no `java`: install a JRE, 17 or 21, for Spark"),
]

SETTINGS = """
spark.master                   local[1]
spark.driver.memory            1g
spark.driver.extraJavaOptions  -XX:+UseSerialGC -XX:TieredStopAtLevel=1
spark.sql.shuffle.partitions   1
spark.sql.adaptive.enabled     false
spark.sql.codegen.wholeStage   false
spark.ui.enabled               false
spark.ui.showConsoleProgress   false
"""
"""For so little data: no compiling, one task a stage."""
CONFIG = DatasetConfig(hard_share=0.5, ranker_hard_share=1.0, least_interactions=2)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for all, configured as operators do it."""
    folder = tmp_path_factory.mktemp("spark")
    (folder / "spark-defaults.conf").write_text(f"{SETTINGS}spark.local.dir {folder / 'scratch'}\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPARK_CONF_DIR", str(folder))
        patched.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        connection = connect(Engine.SPARK)
        yield connection
        connection.disconnect()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return everything(tmp_path_factory.mktemp("world"))


def expressions(snapshot: Snapshot, connection: Any) -> dict[str, Any]:
    """Return the expressions whose rows no file of a data set holds as they are."""
    tables = open_tables(snapshot, connection).until(TAKEN)
    return {
        "whole lists": datasets.whole_lists(tables, INVESTORS, CONFIG),
        "exploration": explored_items(tables, INVESTORS, CONFIG),
        "reactions by chance": reactions(tables, INVESTORS, by_time=False).order_by("place"),
    }


def test_every_expression_gives_the_same_rows(snapshot: Snapshot, spark: Any) -> None:
    own = expressions(snapshot, connect())
    for name, expression in expressions(snapshot, spark).items():
        found, wanted = expression.to_pyarrow(), own[name].to_pyarrow()
        assert found.num_rows == wanted.num_rows > 20, name
        assert found.schema.names == wanted.schema.names, name
        for column in found.schema.names:
            assert found[column].to_pylist() == wanted[column].to_pylist(), f"{name}: {column}"


def test_the_commands_build_the_same_data_sets_row_for_row(
    snapshot: Snapshot, spark: Any, tmp_path: Path
) -> None:
    """Three Parquet files with their manifests, hashes and all, in a folder of the same key."""
    for engine in Engine:
        options = ["--snapshot", str(snapshot.folder), "--work", str(tmp_path / engine), "--engine", engine]
        options += ["--config", "fast", "--registry", f"sqlite:///{tmp_path}/mlflow.db"]
        done = CliRunner().invoke(app, ["datasets", INVESTORS.id, *options])
        assert done.exit_code == 0, done.output
    found, wanted = (
        {file.relative_to(tmp_path / engine): file for file in (tmp_path / engine).rglob("*.*")}
        for engine in (Engine.SPARK, Engine.DUCKDB)
    )
    assert set(found) == set(wanted)
    assert sorted(file.name for file in found if file.suffix == ".parquet") == [
        "als.parquet",
        "ranker.parquet",
        "two_tower.parquet",
    ]
    for name, file in found.items():
        if name.suffix == ".json":
            assert file.read_text() == wanted[name].read_text(), name
        else:
            # Not by ==: a score that was not logged is NaN in both.
            np.testing.assert_equal(*(pq.read_table(each).to_pydict() for each in (file, wanted[name])))


def test_factors_of_mllib_are_as_good(spark: Any, tmp_path: Path) -> None:
    """On the checkerboard the withheld diagonal comes first, and offline vectors are those served."""
    world = checkerboard(24)
    material = Material(of_checkerboard(tmp_path, world), INVESTORS, validation_share=0.0)
    matrix = build_datasets(material, TrainingConfig()).als
    diagonal, events = np.arange(24), material.events
    truth = truth_of((diagonal, diagonal), (events.subject, events.item), (24, 24))
    quality = {}
    for library in AlsLibrary:
        config = AlsConfig(
            factors=8, iterations=5, trials=(AlsTrial(regularization=1.0, alpha=10.0),), library=library
        )
        found = train_als(matrix, config, seed=1)
        assert 0.0 < found.metrics["als_explained_variance"] <= 1.0
        top = als_top(found.model, material, Known.of(events), truth, 3)
        quality[library] = float(truth.metrics(top, 3)["ndcg@3"].mean())
    assert quality[AlsLibrary.SPARK] >= 0.97 * quality[AlsLibrary.IMPLICIT] > 0.5


def test_no_java_is_a_named_error(tmp_path: Path) -> None:
    """In a process of its own: a session that is there would be taken."""
    program = "from training_jobs.datasets.engine import spark_session; spark_session()"
    environment = {**os.environ, "JAVA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert "NotEquipped: Spark's Java does not start" in done.stderr


def test_no_pyspark_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(NotEquipped, match=r"PySpark is not installed.*matchloop\[spark\]"):
        connect(Engine.SPARK)
