"""Snapshots of the record: ``python -m feedback_svc.export --out FOLDER``.

One REPEATABLE READ transaction: every table as of one moment. Rows arrive as Arrow and go to Parquet in
bounded memory. Nothing at or below the watermark can appear later (see the first migration), so parts of an
older snapshot are kept, except where the table `amendments` says that rows of them were changed or deleted.
"""

from feedback_svc.export.record import Record
from feedback_svc.export.run import PART_ROWS, Exported, export

__all__ = ["PART_ROWS", "Exported", "Record", "export"]
