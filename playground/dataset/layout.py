"""`dataset.toml`, checked against the use cases and the files' headers: every problem is reported at once."""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from matchloop.errors import InvalidInput, Violation
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from matchloop.usecase import UseCase

FILE = "dataset.toml"
Named = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntityFile(_Part):
    """Where the entities of one kind are."""

    kind: Named
    file: Named
    id: Named
    categorical: tuple[Named, ...] = ()
    multi: tuple[Named, ...] = ()
    numeric: tuple[Named, ...] = ()
    text: tuple[Named, ...] = ()
    created: Named | None = None

    @property
    def typed(self) -> dict[str, FeatureType]:
        """Type by feature column."""
        return {
            column: type_
            for type_, columns in (
                (FeatureType.CATEGORICAL, self.categorical),
                (FeatureType.MULTI, self.multi),
                (FeatureType.NUMERIC, self.numeric),
                (FeatureType.TEXT, self.text),
            )
            for column in columns
        }


class EventColumns(_Part):
    """Where the events are; `file` is left out when the split names two."""

    file: Named | None = None
    time: Named | None = None
    type: Named | None = None
    value: Named | None = None


class DeclaredUseCase(_Part):
    """A use case, as the data set names it."""

    id: Named
    subject: Named
    item: Named
    event_type: Named | None = None


class DeclaredSplit(_Part):
    """A cutoff, or two files."""

    cutoff: date | datetime | None = None
    train: Named | None = None
    test: Named | None = None
    relevant: tuple[Named, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> DeclaredSplit:
        by_file = self.train is not None and self.test is not None
        if (self.cutoff is not None) == by_file or (self.train is None) != (self.test is None):
            raise ValueError("give either `cutoff`, or both `train` and `test`")
        return self

    @property
    def cutoff_time(self) -> datetime | None:
        """The cutoff as an aware time; a date means its first instant, UTC."""
        cutoff = self.cutoff
        if cutoff is None:
            return None
        if not isinstance(cutoff, datetime):
            cutoff = datetime(cutoff.year, cutoff.month, cutoff.day, tzinfo=UTC)
        return cutoff if cutoff.tzinfo else cutoff.replace(tzinfo=UTC)


class Layout(_Part):
    """The whole of `dataset.toml`."""

    name: Named
    entities: Annotated[tuple[EntityFile, ...], Field(min_length=1)]
    events: EventColumns = EventColumns()
    use_case: Annotated[tuple[DeclaredUseCase, ...], Field(min_length=1)]
    split: DeclaredSplit | None = None

    @property
    def event_files(self) -> tuple[str, ...]:
        """The event files: the one, or train before test."""
        if self.split is not None and self.split.train and self.split.test:
            return (self.split.train, self.split.test)
        return (self.events.file,) if self.events.file else ()


def read_layout(folder: Path, use_cases: Mapping[str, UseCase]) -> Layout:
    """Read `dataset.toml` of a folder and check it against the use cases.

    Raises
    ------
    InvalidInput
        With one violation per problem.
    """
    try:
        declared = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
        layout = Layout.model_validate(declared)
    except ValidationError as error:
        raise InvalidInput.of(
            [
                Violation(f"{FILE}: {'.'.join(map(str, fault['loc']))}".rstrip(": "), fault["msg"])
                for fault in error.errors()
            ]
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput.of([Violation(f"{folder / FILE}", str(error))]) from None
    violations = [*_entity_problems(layout, use_cases), *_use_case_problems(layout, use_cases)]
    violations += _event_problems(layout)
    if violations:
        raise InvalidInput.of(violations)
    return layout


def _entity_problems(layout: Layout, use_cases: Mapping[str, UseCase]) -> Iterator[Violation]:
    declared = [use_cases[name.id] for name in layout.use_case if name.id in use_cases]
    schemas = {kind: schema for use_case in declared for kind, schema in use_case.features.items()}
    kinds = Counter(part.kind for part in layout.entities)
    for i, part in enumerate(layout.entities):
        where = f"{FILE}: entities[{i}]"
        if kinds[part.kind] > 1:
            yield Violation(f"{where}.kind", f"`{part.kind}` is declared more than once")
        if part.kind not in schemas:
            yield Violation(f"{where}.kind", f"no declared use case has the kind `{part.kind}`")
            continue
        schema = schemas[part.kind]
        for column, type_ in part.typed.items():
            if column not in schema:
                yield Violation(f"{where}.{type_}", f"`{column}` is no feature of `{part.kind}`")
            elif schema[column] != type_:
                yield Violation(
                    f"{where}.{type_}", f"`{column}` is {schema[column]} in the use cases, not {type_}"
                )


def _use_case_problems(layout: Layout, use_cases: Mapping[str, UseCase]) -> Iterator[Violation]:
    kinds = {part.kind for part in layout.entities}
    names = Counter(declared.id for declared in layout.use_case)
    for i, declared in enumerate(layout.use_case):
        where = f"{FILE}: use_case[{i}]"
        if names[declared.id] > 1:
            yield Violation(f"{where}.id", f"`{declared.id}` is declared more than once")
        for role, kind in (("subject", declared.subject), ("item", declared.item)):
            if kind not in kinds:
                yield Violation(f"{where}.{role}", f"no entities of kind `{kind}` are declared")
        yield from _reading_problems(where, declared, use_cases)
        if declared.event_type is None and layout.events.type is None:
            yield Violation(f"{where}.event_type", "is missing, and [events] names no type column")


def _reading_problems(
    where: str, declared: DeclaredUseCase, use_cases: Mapping[str, UseCase]
) -> Iterator[Violation]:
    if declared.id not in use_cases:
        known = ", ".join(use_cases)
        yield Violation(f"{where}.id", f"no use case `{declared.id}`; there are: {known}")
        return
    use_case = use_cases[declared.id]
    for role, found, known_kind in (
        ("subject", declared.subject, use_case.subject),
        ("item", declared.item, use_case.item),
    ):
        if found != known_kind:
            yield Violation(f"{where}.{role}", f"is `{known_kind}` in the use case, not `{found}`")
    if declared.event_type is not None and declared.event_type not in use_case.events:
        yield Violation(f"{where}.event_type", f"`{declared.id}` has no event type `{declared.event_type}`")


def _event_problems(layout: Layout) -> Iterator[Violation]:
    if not layout.event_files:
        yield Violation(f"{FILE}: events.file", "is missing, and [split] names no train and test files")
    if layout.events.file and len(layout.event_files) > 1:
        yield Violation(f"{FILE}: events.file", "give either the one file, or the split's train and test")
    if layout.split is not None and layout.split.cutoff is not None and layout.events.time is None:
        yield Violation(f"{FILE}: split.cutoff", "needs the time of events: [events] names no time column")
    ids = Counter(part.id for part in layout.entities)
    for i, part in enumerate(layout.entities):
        if ids[part.id] > 1:
            yield Violation(
                f"{FILE}: entities[{i}].id", f"`{part.id}` names two kinds: events cannot tell them"
            )
