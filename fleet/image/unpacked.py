"""Unpacking what somebody brought, within bounds: a small file may say that it is terabytes, or that its headers are.

A layer of a ROCm image unpacks to three or four times its size, and deflate reaches 1032 times (RFC 1951: 258 bytes by two
bits). What unpacks to more than 100 times its size, and to more than a GiB, is no image.
"""

import bz2
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

RATIO = 100
FLOOR = 1 << 30  # bytes that everything may unpack to
CHUNK = 1 << 20
HEADER = 256 << 10  # bytes of one header of a member: long names and attributes
XZ_MEMORY = 256 << 20  # bytes of a decoder; `xz -9` asks for 65 MiB
PROBLEMS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, RecursionError, ValueError)


class TooLargeError(EOFError):
    """It goes on and on."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Unpacked(io.RawIOBase):
    """The bytes of a gzip, bzip2 or xz file, or of any other as they are, of which at most `most` are given out.

    Raises TooLargeError, EOFError for a file that ends early, zlib.error, lzma.LZMAError, or OSError (bz2's).
    """

    def __init__(self, raw: Readable, most: int) -> None:
        super().__init__()
        self._raw, self._most, self._count = raw, most, 0
        self._rest = raw.read(CHUNK)
        self._make = _decoder(self._rest)
        self._decoder: Any = self._make() if self._make else None

    @property
    def packed(self) -> bool:
        return self._make is not None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Not more than CHUNK bytes at once; nothing at the end."""
        size = CHUNK if size < 0 else min(size, CHUNK)
        data = self._unpack(size) if self._make else self._plain(size)
        self._count += len(data)
        if self._count > self._most:
            raise TooLargeError(f"it unpacks to more than {self._most >> 20} MiB, which no image does")
        return data

    def _plain(self, size: int) -> bytes:
        data, self._rest = self._rest[:size], self._rest[size:]
        return data or self._raw.read(size)

    def _unpack(self, size: int) -> bytes:
        while size and self._make:
            if self._decoder is None and not self._next():
                return b""
            if not self._rest and getattr(self._decoder, "needs_input", True):
                self._rest = self._raw.read(CHUNK)
            given, self._rest = self._rest, b""
            data: bytes = self._decoder.decompress(given, size)
            if self._decoder.eof:
                self._rest, self._decoder = self._decoder.unused_data, None
            else:
                self._rest = getattr(self._decoder, "unconsumed_tail", b"")
                if not data and not given:
                    raise EOFError("it ends early")
            if data:
                return data
        return b""

    def _next(self) -> bool:
        """Another stream behind the one that ended (RFC 1952, 2.2); zeros there are padding."""
        self._rest = self._rest.lstrip(b"\0")
        while not self._rest:
            more = self._raw.read(CHUNK)
            if not more:
                return False
            self._rest = more.lstrip(b"\0")
        self._decoder = self._make() if self._make else None
        return True


def most(packed: int) -> int:
    """How many bytes a file of `packed` bytes may unpack to."""
    return max(FLOOR, RATIO * packed)


def members(file: Readable) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member of a tar while it is read once, none of which is kept. Raises PROBLEMS."""
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member, bufsize=CHUNK) as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            yield tar, member
            tar.members.clear()
            tar.pax_headers.clear()


class _Member(tarfile.TarInfo):
    """Its methods of these names are the hooks that tarfile's source tells of; what they would keep has no bound.

    Of sparse files nothing is read, so nobody needs to know where their holes are.
    """

    _HEADERS = (
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    )

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in self._HEADERS and not 0 <= self.size <= HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _proc_sparse(self, tar: Any) -> "_Member":
        more = self._sparse_structs[1]  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        while more:
            block = tar.fileobj.read(tarfile.BLOCKSIZE)
            more = len(block) == tarfile.BLOCKSIZE and bool(block[504])
        self.offset_data = tar.fileobj.tell()
        tar.offset = self.offset_data + self._block(self.size)  # type: ignore[attr-defined]
        return self

    def _proc_gnusparse_10(self, *_: object) -> None:
        """The map stands before the file's bytes, and is passed over with them."""


def _decoder(head: bytes) -> Callable[[], Any] | None:
    if head.startswith(b"\x1f\x8b"):
        return lambda: zlib.decompressobj(wbits=31)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    if head.startswith(b"\xfd7zXZ\x00"):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    return None
