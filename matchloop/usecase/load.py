"""Load use cases from TOML files, reporting every problem of every file at once."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from matchloop.errors import InvalidInput, NotFound, Reason, Violation
from matchloop.usecase.model import UseCase

SHIPPED = Path(str(resources.files("matchloop.usecase") / "defs"))
"""The folder of the use cases that come with matchloop."""


class UseCases(Mapping[str, UseCase]):
    """Use cases by id, in the order they were loaded."""

    def __init__(self, use_cases: Sequence[UseCase]) -> None:
        self._by_id = {use_case.id: use_case for use_case in use_cases}
        self._reverses = {
            use_case.reverse_of: use_case for use_case in use_cases if use_case.reverse_of is not None
        }

    def __getitem__(self, key: str) -> UseCase:
        """Return the use case of that id.

        Raises
        ------
        NotFound
            Naming the use cases there are.
        """
        try:
            return self._by_id[key]
        except KeyError:
            known = ", ".join(self._by_id)
            raise NotFound(
                f"no use case `{key}`; there are: {known}", reason=Reason.USE_CASE_NOT_FOUND
            ) from None

    def __contains__(self, key: object) -> bool:
        return key in self._by_id

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def reverse_of(self, forward: str) -> UseCase | None:
        """Return the use case that is the reverse of `forward`; None when there is none."""
        return self._reverses.get(forward)

    @property
    def kinds(self) -> Mapping[str, Mapping[str, str]]:
        """Feature types by kind and feature name; kinds agree over all use cases."""
        return {
            kind: {name: str(type_) for name, type_ in features.items()}
            for use_case in self.values()
            for kind, features in use_case.features.items()
        }


def load_use_cases(*folders: Path) -> UseCases:
    """Load every ``*.toml`` of the shipped folder and of `folders`.

    Returns
    -------
    UseCases
        Ordered by folder, then file name.

    Raises
    ------
    InvalidInput
        With one violation per problem; `field` is ``file: path.in.file``.
    """
    violations: list[Violation] = []
    raw: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in [path for folder in (SHIPPED, *folders) for path in sorted(folder.glob("*.toml"))]:
        try:
            declared = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            violations.append(Violation(path.name, str(error)))
            continue
        name = str(declared.get("id", path.stem))
        if name in raw:
            violations.append(
                Violation(f"{path.name}: id", f"`{name}` is declared in {raw[name][0].name} too")
            )
        raw[name] = (path, declared)
    use_cases: list[UseCase] = []
    for path, declared in raw.values():
        try:
            use_cases.append(UseCase.model_validate(_with_reverse(declared, raw)))
        except ValidationError as error:
            violations += [
                Violation(f"{path.name}: {'.'.join(map(str, fault['loc']))}".rstrip(": "), fault["msg"])
                for fault in error.errors()
            ]
    violations += _disagreements(use_cases)
    violations += _reversals(use_cases, declared=raw.keys())
    if violations:
        raise InvalidInput.of(violations)
    return UseCases(use_cases)


def _with_reverse(declared: dict[str, Any], raw: Mapping[str, tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Fill what a reverse use case leaves out from the forward one: features as they are, matches turned."""
    forward = raw.get(str(declared.get("reverse_of")), (None, {}))[1]
    turned = [
        {**match, "subject": match["item"], "item": match["subject"]}
        for match in forward.get("match", [])
        if {"subject", "item"} <= match.keys()
    ]
    inherited = {"features": forward.get("features", {}), "match": turned}
    return {**inherited, **declared} if forward else declared


def _disagreements(use_cases: Sequence[UseCase]) -> list[Violation]:
    """One kind means one schema: entities are stored once for all use cases."""
    first: dict[str, UseCase] = {}
    found = []
    for use_case in use_cases:
        for kind, features in use_case.features.items():
            other = first.setdefault(kind, use_case)
            differing = sorted(
                name
                for name in features.keys() | other.features[kind].keys()
                if features.get(name) != other.features[kind].get(name)
            )
            if differing:
                found.append(
                    Violation(
                        f"{use_case.id}: features.{kind}",
                        f"differs from {other.id} in {', '.join(differing)}",
                    )
                )
    return found


def _reversals(use_cases: Sequence[UseCase], *, declared: Collection[str]) -> list[Violation]:
    """Check that a reverse has a forward use case between the same kinds, turned, which has no other."""
    by_id = {use_case.id: use_case for use_case in use_cases}
    reverses: dict[str, str] = {}
    found = []
    for use_case in use_cases:
        name = use_case.reverse_of
        if name is None:
            continue
        where, forward = f"{use_case.id}: reverse_of", by_id.get(name)
        if forward is None:
            if name not in declared:  # a declared one is at fault itself
                found.append(Violation(where, f"there is no use case `{name}`"))
        elif forward.reverse_of is not None:
            found.append(Violation(where, f"`{name}` is a reverse itself"))
        elif (use_case.subject, use_case.item) != (forward.item, forward.subject):
            found.append(
                Violation(
                    where,
                    f"`{name}` goes from {forward.subject} to {forward.item},"
                    f" this one from {use_case.subject} to {use_case.item}",
                )
            )
        elif name in reverses:
            found.append(Violation(where, f"`{name}` has a reverse already: `{reverses[name]}`"))
        reverses.setdefault(name, use_case.id)
    return found
