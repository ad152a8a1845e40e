"""Generate the committed Python stubs from protos/, or check that they are fresh."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"


def generate(target: Path) -> list[Path]:
    """Write stubs and type stubs under `target`; return them, relative to it, in order."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    outputs = [
        "--mypy_opt=quiet",
        "--mypy_grpc_opt=quiet",
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
    ]
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    subprocess.run(  # noqa: S603 - fixed arguments of our own
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *plugins, *outputs, *files], check=True
    )
    # A service-less file needs no grpc stub; protoc writes an empty one all the same.
    for stub in target.rglob("*_pb2_grpc.py*"):
        if "add_" not in stub.read_text() and "Stub" not in stub.read_text():
            stub.unlink()
    for folder in {path.parent for path in target.rglob("*_pb2.py")}:
        for package in (folder, folder.parent):
            (package / "__init__.py").write_text('"""Generated from protos/: never edited by hand."""\n')
    return sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file())


def stale() -> list[str]:
    """Name every stub that is missing, changed or left over."""
    areas = sorted({path.parent.parent.name for path in PROTOS.rglob("*.proto")})
    with tempfile.TemporaryDirectory() as fresh:
        made = generate(Path(fresh))
        differing = [
            str(path)
            for path in made
            if not (ROOT / path).is_file() or (ROOT / path).read_bytes() != (Path(fresh) / path).read_bytes()
        ]
    committed = {
        path.relative_to(ROOT)
        for area in areas
        for path in (ROOT / "matchloop" / area).rglob("*.py*")
        if "__pycache__" not in path.parts
    }
    return differing + [f"{path} (left over)" for path in sorted(committed - set(made))]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a stub is stale")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    faults = stale()
    for fault in faults:
        sys.stderr.write(f"stale stub: {fault}; run `make protos`\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
