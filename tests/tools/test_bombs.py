"""Small files that say they are large: what they unpack to is read within bounds of memory and disk, and named."""

import gzip
import hashlib
import io
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.bundle import have
from fleet.errors import FleetError
from fleet.image import archive, unpacked
from fleet.image.convert import to_layout
from fleet.image.image_files import find
from fleet.image.layout import read, verify
from tests.tools.test_bundle import MIB, controller, fleet, signers
from tests.tools.test_hostile_bundle import put, record, seal
from tests.unit.image.layouts import make

GIB = 1 << 30
MEMORY = 300 * MIB  # what a process of ours may have, all in all


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    one = tarfile.TarInfo(name)
    one.size, one.type, one.linkname = size, kind, target
    return one.tobuf(tarfile.GNU_FORMAT)


def bomb() -> bytes:
    """A member of zeros: three MiB that unpack to three GiB, in streams behind one another."""
    return gzip.compress(member("zeros", 3 * GIB)) + gzip.compress(bytes(64 * MIB)) * 48 + gzip.compress(bytes(1024))


def head_of(size: int, kind: bytes) -> bytes:
    """A header that goes on for so long, or says so."""
    return gzip.compress(member("././@LongLink", size, kind) + bytes(MIB))


def nested() -> bytes:
    """Headers of headers of headers."""
    pax = b"14 path=xxxxx\n"
    one = member("x", len(pax), tarfile.XHDTYPE) + pax + bytes(512 - len(pax))
    return gzip.compress(one * 5000 + bytes(1024))


def cut() -> bytes:
    return gzip.compress(member("a", 4) + b"true" + bytes(508 + 1024))[:-4]


HOSTILE: list[tuple[str, Callable[[], bytes], str]] = [
    ("bomb", bomb, "unpacks to more than"),
    ("long-name", lambda: head_of(2 * GIB, tarfile.GNUTYPE_LONGNAME), "a header of 2147483648 bytes"),
    ("long-pax", lambda: head_of(GIB, tarfile.XHDTYPE), "a header of 1073741824 bytes"),
    ("nested", nested, "recursion"),
    ("cut", cut, "ends early"),
    ("no-tar", lambda: gzip.compress(b"no tar at all" * 100), "is no sound layer"),
    ("dots", lambda: gzip.compress(member("a/../../../etc/passwd", 0) + bytes(1024)), "etc/passwd' leaves the image"),
    (
        "link",
        lambda: gzip.compress(member("a", 0, tarfile.LNKTYPE, "../../etc/shadow") + bytes(1024)),
        "a link to '../../etc/shadow', leaves the image",
    ),
    ("whiteout", lambda: gzip.compress(member("a/.wh...", 0) + bytes(1024)), "member 'a/.wh...' leaves the image"),
    ("other", lambda: gzip.compress(member("a", 0) + bytes(1024)), f"it does not unpack to sha256:{'5' * 64}"),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bombs")
    signers(root)
    home = controller(root / "home", 1)
    fleet(home, "bundle.create", "-i", "site.yaml", "--without-tool", "-o", "../full")
    (root / "site").mkdir()
    return root


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def poisoned(ground: Path, to: Path, layer: bytes) -> Path:
    """A bundle whose upper layer is this, with everything that names it in step."""
    bundle = Path(shutil.copytree(ground / "full", to))
    path = record(bundle)
    told = json.loads(path.read_text())
    blobs = bundle / "images/blobs/sha256"
    manifest = json.loads((blobs / told["manifest_digest"][7:]).read_text())
    config = json.loads((blobs / told["config_digest"][7:]).read_text())
    gone = {told["manifest_digest"], told["config_digest"], told["layer_digests"][1]}
    config["rootfs"]["diff_ids"][1] = told["diff_ids"][1] = f"sha256:{'5' * 64}"
    texts = [json.dumps(config).encode()]
    manifest["config"] |= {"digest": sha(texts[0]), "size": len(texts[0])}
    manifest["layers"][1] |= {"digest": sha(layer), "size": len(layer)}
    texts.append(json.dumps(manifest).encode())
    told |= {"config_digest": sha(texts[0]), "manifest_digest": sha(texts[1])}
    told["layer_digests"][1], told["layer_sizes"][1] = sha(layer), len(layer)
    name = f"{told['name']}:{told['manifest_digest'][7:19]}"
    index = json.loads((bundle / "images/index.json").read_text())
    index["manifests"][0] |= {"digest": sha(texts[1]), "size": len(texts[1])}
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = name
    inside = [f"blobs/{digest.replace(':', '/')}" for digest in told["layer_digests"]]
    images = [{"Config": f"blobs/sha256/{told['config_digest'][7:]}", "RepoTags": [name], "Layers": inside}]
    for digest in gone:
        (blobs / digest[7:]).unlink()
    old = {f"images/blobs/sha256/{digest[7:]}" for digest in gone}
    seal(bundle, lambda d: d.update(files=[one for one in d["files"] if one["path"] not in old]))
    seal(bundle, lambda d: [one.update(release=told["manifest_digest"][7:19]) for one in d["wants"]])
    for content in (*texts, layer):
        put(bundle, f"images/blobs/sha256/{sha(content)[7:]}", content)
    put(bundle, "images/index.json", json.dumps(index).encode())
    put(bundle, "images/manifest.json", json.dumps(images).encode())
    put(bundle, f"releases/{path.name}", json.dumps(told).encode())
    return bundle


def command(folder: Path, *words: str) -> tuple[int, str, int]:
    """Exit code, all that it said, and the most memory that it had, in bytes."""
    script = (
        "from pathlib import Path\nfrom fleet.program import main\n"
        "try: main()\nfinally: print('peak', Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        (sys.executable, "-c", script, *words), cwd=folder, capture_output=True, text=True, check=False
    )
    *_, peak = done.stdout.split("peak ")
    return done.returncode, done.stdout + done.stderr, int(peak) * 1024


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with numbers that take no seconds to reach."""
    monkeypatch.setattr(unpacked, "FLOOR", 8 * MIB)
    monkeypatch.setattr(archive, "_MEMBERS", 1000)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("made", "said"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_layer_that_is_none_is_named_in_a_bundle_that_nobody_signed_and_nothing_is_loaded(
    ground: Path, tmp_path: Path, made: Callable[[], bytes], said: str
) -> None:
    poisoned(ground, tmp_path / "full", made())
    (tmp_path / "site").mkdir()
    for verb in ("bundle.verify", "bundle.load"):
        told = fleet(tmp_path / "site", verb, "../full", "--unsigned", code=1)
        assert said in told
        assert "mistake of ours" not in told
    assert not (tmp_path / "site/.fleet").exists()


def test_a_bomb_takes_no_memory(ground: Path, tmp_path: Path) -> None:
    poisoned(ground, tmp_path / "full", bomb())
    (tmp_path / "site").mkdir()
    code, told, peak = command(tmp_path / "site", "bundle.verify", "../full", "--unsigned")
    assert (code, "unpacks to more than 1024 MiB" in told) == (1, True), told
    assert peak < MEMORY


@pytest.mark.usefixtures("_small")
def test_a_signed_one_is_looked_into_when_asked(ground: Path, tmp_path: Path) -> None:
    bundle = poisoned(ground, tmp_path / "full", bomb())
    (tmp_path / "site").mkdir()
    sign = ("ssh-keygen", "-q", "-Y", "sign", "-n", "fleet-bundle", "-f", ground / "key", bundle / "MANIFEST.json")
    subprocess.run(sign, check=True, capture_output=True)
    words = ("bundle.verify", "../full", "--allowed-signers", str(ground / "signers"))
    assert "signed by ops@desk" in fleet(tmp_path / "site", *words)
    assert "unpacks to more than" in fleet(tmp_path / "site", *words, "--layers", code=1)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress])
def test_an_archive_that_unpacks_without_end_fills_no_disk(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed(member("manifest.json", 64 * MIB) + bytes(64 * MIB)))
    with pytest.raises(FleetError, match="unpacks to more than 8 MiB"):
        archive.inspect(path)


@pytest.mark.usefixtures("_small")
def test_an_archive_of_members_without_end_and_an_xz_file_that_asks_for_gigabytes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    many = io.BytesIO()
    with gzip.GzipFile(fileobj=many, mode="wb", compresslevel=1) as out:
        for number in range(1002):
            out.write(member(f"{number}", 0))
    path.write_bytes(many.getvalue())
    with pytest.raises(FleetError, match="has more than 1000 members"):
        archive.inspect(path)
    small = bytearray(lzma.compress(b"x" * 5000, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    small[small.index(b"\x21\x01") + 2] = 40  # LZMA2 has one byte of properties: its dictionary, here of 4 GiB
    end = 12 + small[12] * 4  # of the block's header, before its checksum (xz-file-format.txt, 3.1)
    small[end : end + 4] = zlib.crc32(small[12:end]).to_bytes(4, "little")
    path.write_bytes(bytes(small))
    with pytest.raises(FleetError, match="Memory usage limit"):
        archive.inspect(path)


@pytest.mark.usefixtures("_small")
def test_a_layout_is_verified_and_searched_within_bounds(tmp_path: Path) -> None:
    image = read(make(tmp_path / "layout", [{"zeros": "\0" * 16 * MIB}]))
    for look in (verify, lambda one: find(one, {"x": re.compile("nowhere")})):
        with pytest.raises(FleetError, match="unpacks to more than 8 MiB"):
            look(image)


@pytest.mark.usefixtures("_small")
def test_a_layer_of_zstd_that_unpacks_without_end_fills_no_disk(tmp_path: Path) -> None:
    plain = make(tmp_path / "layout", [{"zeros": "\0" * 16 * MIB}], plain=True)
    words = ("skopeo", "copy", "-q", "--dest-compress-format", "zstd", f"oci:{plain}", f"oci:{tmp_path}/zstd:x")
    subprocess.run(words, check=True)
    assert "zstd" in read(tmp_path / "zstd").layers[0].media_type
    with pytest.raises(FleetError, match="file too large"):
        to_layout(f"oci:{tmp_path}/zstd:x", tmp_path / "made", on_line=lambda _line: None)
    assert not (tmp_path / "made").exists()


def test_a_chunk_of_a_layer_takes_no_gigabyte_while_it_is_verified(tmp_path: Path) -> None:
    image = read(make(tmp_path / "layout", [{"zeros": "\0" * 64 * MIB}]))
    tracemalloc.start()
    try:
        verify(image)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_small_documents_that_are_not_small_are_told(tmp_path: Path) -> None:
    layout = make(tmp_path / "layout")
    (layout / "index.json").write_bytes(b" " * (9 * MIB))
    with pytest.raises(FleetError, match="longer than 8 MiB"):
        read(layout)
    with (tmp_path / "have.json").open("wb") as file:
        file.truncate(10 * GIB)
    with pytest.raises(FleetError, match="longer than 64 MiB"):
        have.read(tmp_path / "have.json")
    (tmp_path / "have.json").write_bytes(b"[" * 100_000)
    with pytest.raises(FleetError, match="is no file of"):
        have.read(tmp_path / "have.json")


def test_sparse_files_long_names_and_streams_behind_one_another_are_read(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar"
    (tmp_path / "hole").touch()
    with (tmp_path / "hole").open("r+b") as file:
        for at in range(0, 64 * MIB, MIB):
            file.seek(at)
            file.write(b"x")
    (tmp_path / ("n" * 200)).write_text("long")
    for form in ("gnu", "posix"):
        words = ("tar", f"--format={form}", "--sparse", "-C", tmp_path, "-cf", path, "hole", "n" * 200)
        subprocess.run(words, check=True)
        content = path.read_bytes()
        packed = gzip.compress(content[:5000]) + gzip.compress(content[5000:]) + bytes(100)
        stream = unpacked.Unpacked(io.BytesIO(packed), GIB)
        assert [one.name.rpartition("/")[2] for _, one in unpacked.members(stream)] == ["hole", "n" * 200]
