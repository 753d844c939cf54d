"""How raw recordings lie on disk: lines of text in chunks, each chunk a zstd frame that can be checked by itself.

A line is `<local ns> <frame>` for what a venue sent, or `<local ns> #<kind> <JSON>` for what the recorder has to say. Before
each zstd frame stands a skippable frame (RFC 8878, 3.1.2) that names the recording, the chunk's number, its lengths and its CRC,
so `zstd -dc` reads the file as text, and a reader of ours finds the next whole chunk behind a damaged one.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import orjson
import pyarrow as pa

FRAME = "frame"
HEADER = "header"
GAP = "gap"
_ESCAPED = "base64"
_SKIPPABLE = 0x184D2A50
_TAG = b"HRAW"
_HEAD = struct.Struct("<II4sQQIII")  # zstd's magic and length, then tag, recording, number, packed and raw length, CRC
_CHECKED = struct.Struct("<QQII")
_MARK = struct.pack("<II4s", _SKIPPABLE, _HEAD.size - 8, _TAG)
_CODEC = pa.Codec("zstd", compression_level=3)


@dataclass(frozen=True, slots=True)
class Record:
    """One line. `kind` is `frame` for a venue's own words; `payload` is then what came, else JSON."""

    local_ns: int
    kind: str
    payload: bytes

    def json(self) -> dict[str, Any]:
        """Return the payload of a record that is no frame."""
        value: dict[str, Any] = orjson.loads(self.payload)
        return value


@dataclass(slots=True)
class Damage:
    """What was wrong with a recording while it was read.

    Attributes
    ----------
    damaged_bytes, damaged_lines : int
        Bytes skipped on the way to the next whole chunk; lines of a whole chunk that are none of ours.
    missing_chunks, repeated_chunks, repeated_records : int
        Numbers left out; chunks and lines that came twice and were taken once.
    torn_files : int
        Files that end in the middle of a chunk: their recorder was killed.
    """

    damaged_bytes: int = 0
    damaged_lines: int = 0
    missing_chunks: int = 0
    repeated_chunks: int = 0
    repeated_records: int = 0
    torn_files: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines as they were written together; `recording` and `number` say where they belong."""

    recording: int
    number: int
    raw: bytes


def frame_line(local_ns: int, frame: str | bytes) -> bytes:
    """Return the line of a venue's frame, to be read back byte for byte."""
    data = frame.encode() if isinstance(frame, str) else frame
    if not data or b"\n" in data or data.startswith(b"#"):
        return b"%d #%s %s\n" % (local_ns, _ESCAPED.encode(), b64encode(data))
    return b"%d %s\n" % (local_ns, data)


def note_line(local_ns: int, kind: str, value: object) -> bytes:
    """Return the line of a note."""
    return b"%d #%s %s\n" % (local_ns, kind.encode(), orjson.dumps(value))


def parse_lines(raw: bytes, damage: Damage) -> Iterator[Record]:
    """Yield the records of a chunk; lines that are none of ours are counted and left out."""
    for line in raw.split(b"\n"):
        if line:
            record = _parse(line)
            if record is None:
                damage.damaged_lines += 1
            else:
                yield record


def pack(chunk: Chunk) -> bytes:
    """Return a chunk as it goes to disk."""
    packed: bytes = _CODEC.compress(chunk.raw, asbytes=True)
    crc = crc32(packed, crc32(_CHECKED.pack(chunk.recording, chunk.number, len(packed), len(chunk.raw))))
    return _HEAD.pack(_SKIPPABLE, _HEAD.size - 8, _TAG, chunk.recording, chunk.number, len(packed), len(chunk.raw), crc) + packed


def unpack(data: bytes, damage: Damage) -> Iterator[Chunk]:
    """Yield the whole chunks of a file's bytes; what lies between them is counted as damage."""
    position = 0
    while position < len(data):
        chunk, end = _chunk_at(data, position)
        if chunk is not None:
            yield chunk
            position = end
            continue
        following = data.find(_MARK, position + 1)
        if following < 0 and _is_torn(data, position, end):
            damage.torn_files += 1
            return
        following = len(data) if following < 0 else following
        damage.damaged_bytes += following - position
        position = following


def _chunk_at(data: bytes, position: int) -> tuple[Chunk | None, int]:
    if len(data) - position < _HEAD.size or not data.startswith(_MARK, position):
        return None, position
    _, _, _, recording, number, n_packed, n_raw, crc = _HEAD.unpack_from(data, position)
    end = position + _HEAD.size + n_packed
    packed = data[position + _HEAD.size : end]
    if crc32(packed, crc32(_CHECKED.pack(recording, number, n_packed, n_raw))) != crc:
        return None, end
    try:
        return Chunk(recording, number, _CODEC.decompress(packed, n_raw, asbytes=True)), end
    except (OSError, pa.ArrowException):
        return None, end


def _is_torn(data: bytes, position: int, end: int) -> bool:
    # A cut leaves the beginning of a chunk: a shorter mark, or a whole head that promises more than there is.
    rest = data[position : position + len(_MARK)]
    return bool(rest) and _MARK.startswith(rest) and (len(data) - position < _HEAD.size or end > len(data))


def _parse(line: bytes) -> Record | None:
    stamp, _, text = line.partition(b" ")
    if not stamp.isdigit() or len(stamp) > 19 or not text:
        return None
    if not text.startswith(b"#"):
        return Record(int(stamp), FRAME, text)
    kind, _, payload = text[1:].partition(b" ")
    try:
        if kind.decode() == _ESCAPED:
            return Record(int(stamp), FRAME, b64decode(payload, validate=True))
        return Record(int(stamp), kind.decode(), payload) if isinstance(orjson.loads(payload), dict) else None
    except (UnicodeDecodeError, Base64Error, orjson.JSONDecodeError):
        return None
