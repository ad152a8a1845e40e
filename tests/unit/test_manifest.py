"""A manifest names every fault of a release's folder; golden requests name every wrong answer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from matchloop.errors import ReleaseRefused, SchemaMismatch
from matchloop.release import GoldenCase, Manifest, SnapshotReference, check_golden, verify, write_golden
from matchloop.release.manifest import MANIFEST_FILE
from matchloop.testing.releases import CREATED, build_release
from matchloop.usecase import load_use_cases

USE_CASES = load_use_cases()
MEDIA = USE_CASES["user_movie"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_release(tmp_path / "release", MEDIA, release="r1")


def test_a_whole_release_verifies(folder: Path) -> None:
    manifest = verify(folder, MEDIA)
    assert manifest.release == "r1"
    assert sorted(manifest.files) == ["golden.json", "ranker/ranker.json", "ranker/ranker.onnx"]
    assert manifest.schema_fingerprint == MEDIA.schema_fingerprint
    assert manifest == Manifest.read(folder)


def test_every_fault_is_named_at_once(folder: Path) -> None:
    onnx = folder / "ranker" / "ranker.onnx"
    onnx.write_bytes(bytes([onnx.read_bytes()[0] ^ 1]) + onnx.read_bytes()[1:])
    (folder / "ranker" / "ranker.json").unlink()
    (folder / "golden.json").write_text("longer")
    (folder / "extra.npy").write_bytes(b"")
    with pytest.raises(ReleaseRefused) as caught:
        verify(folder, USE_CASES["developer_startup"])
    message = caught.value.message
    assert "ranker/ranker.json: missing" in message
    assert "extra.npy: not in the manifest" in message
    assert "golden.json: 6 bytes instead of" in message
    assert "ranker/ranker.onnx: SHA-256" in message
    assert "use case user_movie, not developer_startup" in message


def test_another_schema_is_named_with_both_fingerprints(folder: Path) -> None:
    other = MEDIA.model_copy(update={"embedding_width": 16})
    with pytest.raises(SchemaMismatch) as caught:
        verify(folder, other)
    assert (caught.value.expected, caught.value.found) == (other.schema_fingerprint, MEDIA.schema_fingerprint)
    (folder / "extra.npy").write_bytes(b"")
    with pytest.raises(ReleaseRefused, match=rf"extra\.npy.*{MEDIA.schema_fingerprint}"):
        verify(folder, other)


@pytest.mark.parametrize("content", [None, "", "{}", '{"release": "../up"}'])
def test_an_unreadable_manifest_is_refused(folder: Path, content: str | None) -> None:
    (folder / MANIFEST_FILE).unlink()
    if content is not None:
        (folder / MANIFEST_FILE).write_text(content)
    with pytest.raises(ReleaseRefused, match=r"manifest\.json"):
        verify(folder, MEDIA)


def write(folder: Path, *, release: str = "r1", parts: tuple[str, ...] = ("ranker",)) -> Manifest:
    return Manifest.write(
        folder,
        release=release,
        use_case=MEDIA,
        created=CREATED,
        snapshot=SnapshotReference(watermark="7", manifest_sha256="0" * 64),
        parts=parts,
        metrics={},
    )


def test_what_cannot_be_verified_is_not_written(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(ReleaseRefused, match="als: a part without files"):
        write(folder, parts=("ranker", "als"))
    with pytest.raises(ReleaseRefused, match="charm: no such part"):
        write(folder, parts=("charm",))
    with pytest.raises(ValidationError, match="release"):
        write(folder, release="../up")
    (folder / "golden.json").unlink()
    with pytest.raises(ReleaseRefused, match=r"golden\.json"):
        write(folder)
    assert not (folder / MANIFEST_FILE).exists()


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.onnx"
    (folder / "ranker" / "ranker.onnx").rename(elsewhere)
    (folder / "ranker" / "ranker.onnx").symlink_to(elsewhere)
    with pytest.raises(ReleaseRefused, match="is a link"):
        verify(folder, MEDIA)


EXPECTED = {"score": [[0.5, 0.25]], "name": ["a", "b"]}


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ({"score": [[0.5, 0.26]], "name": ["a", "b"]}, r"p\.score: differs by up to 0\.01"),
        ({"score": [[0.5, float("nan")]], "name": ["a", "b"]}, r"p\.score: differs"),
        ({"score": [0.5, 0.25], "name": ["a", "b"]}, r"p\.score: shape"),
        ({"score": [["0.5", "0.25"]], "name": ["a", "b"]}, r"p\.score: other values"),
        ({"score": [[0.5, 0.25]], "name": ["b", "a"]}, r"p\.name: other values"),
        ({}, r"p\.score: not answered; p\.name: not answered"),
    ],
)
def test_wrong_answers_are_named(tmp_path: Path, answers: dict[str, object], fault: str) -> None:
    write_golden(tmp_path, {"p": GoldenCase(inputs={}, outputs=EXPECTED)})
    with pytest.raises(ReleaseRefused, match=fault):
        check_golden(tmp_path, {"p": lambda inputs: answers})


def test_answers_within_the_tolerance_pass(tmp_path: Path) -> None:
    write_golden(tmp_path, {"p": GoldenCase(inputs={"x": 1}, outputs=EXPECTED)})
    seen = []

    def answer(inputs: object) -> dict[str, object]:
        seen.append(inputs)
        return {"score": np.array([[0.50005, 0.25]], dtype=np.float32), "name": ["a", "b"], "more": 1}

    check_golden(tmp_path, {"p": answer})
    assert seen == [{"x": 1}]
    check_golden(tmp_path, {})


def test_a_part_without_golden_request_or_that_dies_is_refused(tmp_path: Path) -> None:
    def die(inputs: object) -> dict[str, object]:
        raise KeyError("weights")

    write_golden(tmp_path, {"p": GoldenCase(inputs={}, outputs=EXPECTED)})
    with pytest.raises(ReleaseRefused, match=r"q: no golden request; p: KeyError"):
        check_golden(tmp_path, {"q": die, "p": die})


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_unreadable_golden_requests_are_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(write_golden(tmp_path, {}))
    with pytest.raises(ReleaseRefused, match=r"golden\.json"):
        check_golden(tmp_path, {})
