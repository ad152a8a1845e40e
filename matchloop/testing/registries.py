"""A registry in a folder, for tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matchloop.errors import NotFound, Reason, Unavailable
from matchloop.release.manifest import Manifest
from matchloop.release.registry import (
    RegisteredRelease,
    check_before_register,
    place_verified,
    read_manifest,
)


class FolderRegistry:
    """`Registry` in a folder: ``<use case>/<version>/`` and ``<use case>/index.json``. One process at a time.

    Set `available` to False and every call raises `Unavailable`; `looked`, `resolved` and `fetched` count
    calls of `aliases`, `resolve` and `fetch`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.available = True
        self.looked = 0
        self.resolved = 0
        self.fetched = 0

    def register(
        self, folder: Path, use_case: str, *, run_id: str | None, metrics: Mapping[str, float]
    ) -> RegisteredRelease:
        """See `Registry`."""
        manifest = check_before_register(folder, use_case)
        index = self._index(use_case)
        for known in self.list(use_case):
            if known.release == manifest.release:
                return known
        version = str(len(index["versions"]) + 1)
        shutil.copytree(folder, self.root / use_case / version)
        index["versions"].append(
            {"release": manifest.release, "version": version, "run_id": run_id, "metrics": dict(metrics)}
        )
        self._write(use_case, index)
        return self._registered(use_case, index, index["versions"][-1])

    def set_alias(self, use_case: str, alias: str, version: str) -> None:
        """See `Registry`."""
        index = self._index(use_case)
        self._version(use_case, index, version)
        index["aliases"][alias] = version
        self._write(use_case, index)

    def drop_alias(self, use_case: str, alias: str) -> None:
        """See `Registry`."""
        index = self._index(use_case)
        if index["aliases"].pop(alias, None) is not None:
            self._write(use_case, index)

    def tag(self, use_case: str, version: str, tags: Mapping[str, str]) -> None:
        """See `Registry`."""
        index = self._index(use_case)
        self._version(use_case, index, version).setdefault("tags", {}).update(tags)
        self._write(use_case, index)

    def resolve(self, use_case: str, alias: str) -> RegisteredRelease | None:
        """See `Registry`."""
        self.resolved += 1
        index = self._index(use_case)
        version = index["aliases"].get(alias)
        found = [known for known in index["versions"] if known["version"] == version]
        return self._registered(use_case, index, found[0]) if found else None

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """See `Registry`."""
        self.looked += 1
        self._reach()
        folders = self.root.iterdir() if self.root.exists() else ()
        return {folder.name: self._index(folder.name)["aliases"] for folder in folders}

    def fetch(self, registered: RegisteredRelease, destination: Path) -> Path:
        """See `Registry`."""
        self._reach()
        self.fetched += 1
        return place_verified(
            registered, destination, lambda folder: shutil.copytree(registered.source, folder / "files")
        )

    def manifest(self, registered: RegisteredRelease) -> Manifest:
        """See `Registry`."""
        self._reach()
        return read_manifest(registered, Path(registered.source))

    def list(self, use_case: str) -> tuple[RegisteredRelease, ...]:
        """See `Registry`."""
        index = self._index(use_case)
        return tuple(self._registered(use_case, index, known) for known in reversed(index["versions"]))

    def use_cases(self) -> tuple[str, ...]:
        """See `Registry`."""
        self._reach()
        return tuple(sorted(path.parent.name for path in self.root.glob("*/index.json")))

    def _version(self, use_case: str, index: dict[str, Any], version: str) -> dict[str, Any]:
        for known in index["versions"]:
            if known["version"] == version:
                found: dict[str, Any] = known
                return found
        raise NotFound(f"no version {version} of {use_case} is registered", reason=Reason.RELEASE_NOT_FOUND)

    def _reach(self) -> None:
        if not self.available:
            raise Unavailable(f"registry {self.root}: switched off", reason=Reason.REGISTRY_UNAVAILABLE)

    def _index(self, use_case: str) -> dict[str, Any]:
        self._reach()
        path = self.root / use_case / "index.json"
        if not path.exists():
            return {"versions": [], "aliases": {}}
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return index

    def _write(self, use_case: str, index: dict[str, Any]) -> None:
        path = self.root / use_case / "index.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(index), encoding="utf-8")

    def _registered(self, use_case: str, index: dict[str, Any], known: dict[str, Any]) -> RegisteredRelease:
        aliases = index["aliases"].items()
        return RegisteredRelease(
            use_case=use_case,
            release=known["release"],
            version=known["version"],
            source=str(self.root / use_case / known["version"]),
            run_id=known["run_id"],
            aliases=tuple(sorted(name for name, version in aliases if version == known["version"])),
            tags=dict(known.get("tags", {})),
        )
