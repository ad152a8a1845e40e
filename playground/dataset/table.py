"""CSV files row by row: a broken row is reported and the next one is read."""

from __future__ import annotations

import csv
import gzip
import zlib
from typing import TYPE_CHECKING

from matchloop.errors import InvalidInput, Violation
from playground.dataset.model import RowFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LONGEST_ROW = 100
"""Most lines that one row may span by line breaks within quotes."""


class Table:
    """One CSV file with a header, gzipped when its name ends in ``.gz``; UTF-8.

    Parameters
    ----------
    folder, file
        Where it is; `file` is how faults name it.
    faults
        Faults found while reading are appended here.

    Raises
    ------
    InvalidInput
        The file is missing, cannot be unpacked or has no header.
    """

    def __init__(self, folder: Path, file: str, faults: list[RowFault]) -> None:
        self.file = file
        self._faults = faults
        try:
            raw = (folder / file).read_bytes()
            packed = gzip.decompress(raw) if file.endswith(".gz") else raw
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput.of([Violation(file, f"cannot be read: {error}")]) from None
        # Undecodable bytes become lone surrogates, so that the rows that hold them can be named.
        self._lines = packed.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n").split("\n")
        header = self._parse(self._lines[:1])
        if isinstance(header, str) or not any(header):
            raise InvalidInput.of([Violation(f"{file}:1", "there is no header")])
        self.header: list[str] = header

    def missing(self, columns: Sequence[str | None]) -> list[Violation]:
        """Return a violation for each column (None is skipped) that the header lacks or has twice."""
        return [
            Violation(
                f"{self.file}:1", f"column `{column}` is missing" if not found else f"`{column}` is twice"
            )
            for column in dict.fromkeys(columns)
            if column is not None and (found := self.header.count(column)) != 1
        ]

    def fault(self, line: int, column: str, message: str, *, row_kept: bool = False) -> None:
        """Report a mistake in a row."""
        self._faults.append(RowFault(self.file, line, column, message, row_kept))

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, cells of these columns) of every row that can be read; cells without outer blanks."""
        places = [self.header.index(column) for column in columns]
        at = 1
        while at < len(self._lines):
            cells, span = self._row_at(at)
            line, at = at + 1, at + span
            if isinstance(cells, str):
                self.fault(line, "", cells)
            elif cells:
                chosen = [cells[place].strip() for place in places]
                broken = next((i for i, cell in enumerate(chosen) if not _is_text(cell)), None)
                if broken is None:
                    yield line, chosen
                else:
                    self.fault(line, columns[broken], "holds bytes that are not UTF-8")

    def _row_at(self, at: int) -> tuple[list[str] | str, int]:
        """Return the cells (or what is wrong) of the row that begins at this line, and the lines it takes.

        A row that is wrong takes one line, so an open quote costs no row but its own.
        """
        for span in range(1, LONGEST_ROW + 1):
            cells = self._parse(self._lines[at : at + span])
            if cells == _OPEN_QUOTE and at + span < len(self._lines):
                continue
            if not isinstance(cells, str) and cells and len(cells) != len(self.header):
                cells = f"{len(cells)} cells, but the header has {len(self.header)}"
            return cells, 1 if isinstance(cells, str) else span
        return _OPEN_QUOTE, 1

    @staticmethod
    def _parse(lines: Sequence[str]) -> list[str] | str:
        try:
            return next(csv.reader(["\n".join(lines)], strict=True), [])
        except csv.Error as error:
            message = str(error)
            return _OPEN_QUOTE if message == "unexpected end of data" else message


_OPEN_QUOTE = "a quote is opened and never closed"


def _is_text(cell: str) -> bool:
    return cell.isascii() or not any("\ud800" <= character <= "\udfff" for character in cell)
