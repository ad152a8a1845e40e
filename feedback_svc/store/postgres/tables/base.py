"""What every table is made of.

Ids compare bytewise (collation "C"), as Python compares strings: pages and lock orders do not depend on a
database's locale. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Double, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase

BYTEWISE = Text(collation="C")
TIME = DateTime(timezone=True)
TEXTS = ARRAY(Text(collation="C"))
DOUBLES = ARRAY(Double)


class Base(DeclarativeBase):
    """Of every table."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: BYTEWISE,
        datetime: TIME,
        int: BigInteger,
        float: Double,
        list[str]: TEXTS,
        list[float]: DOUBLES,
        dict[str, Any]: JSONB,
    }
