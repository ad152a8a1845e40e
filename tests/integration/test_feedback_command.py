"""What feedback_svc's commands say of a statement that PostgreSQL refuses."""

import pytest
import typer
from sqlalchemy import create_engine

from feedback_svc.command import told


def test_a_refused_row_is_not_quoted(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE small (number int NOT NULL, word text)")
    with pytest.raises(typer.Exit) as ended, told(), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO small VALUES (NULL, 'SECRET')")
    engine.dispose()
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert 'null value in column "number"' in said
    assert "SECRET" not in said
