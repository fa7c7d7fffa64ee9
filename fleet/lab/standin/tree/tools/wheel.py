"""`wheel.py build SOURCE VERSION DIRECTORY` packs a wheel; `wheel.py install WHEEL` unpacks it and makes bin/vllm."""

import site
import sys
import zipfile
from pathlib import Path

EPOCH = (2025, 1, 1, 0, 0, 0)
SCRIPT = (
    "#!/usr/bin/python3\nimport sys\n\nfrom vllm.cli import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
)


def build(source: Path, version: str, target: Path) -> Path:
    """The same bytes for the same source."""
    target.mkdir(parents=True, exist_ok=True)
    wheel = target / f"vllm-{version}-py3-none-any.whl"
    package = source / "vllm"
    files = {str(path.relative_to(source)): path.read_bytes() for path in package.rglob("*") if _packed(path)}
    info = f"vllm-{version}.dist-info"
    files["vllm/VERSION"] = f"{version}\n".encode()
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in sorted((*files, f"{info}/RECORD"))).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), files[name])
    return wheel


def _packed(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def install(wheel: Path) -> None:
    """Into this Python's own place for packages."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site.getsitepackages()[0])
    script = Path("/usr/local/bin/vllm")
    script.write_text(SCRIPT)
    script.chmod(0o755)


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    else:
        install(Path(sys.argv[2]))
