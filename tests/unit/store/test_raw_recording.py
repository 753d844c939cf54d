"""Raw recordings on disk: every byte back, and what is left of them after a kill, a flipped bit, a full disk or a second copy."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from helios.errors import DataError
from helios.store.raw_format import GAP, HEADER, Chunk, Damage, pack, parse_lines, unpack
from helios.store.raw_recording import SUFFIX, RawRecorder, RawRecording, find_recordings

HOUR_NS = 3_600 * 10**9
START_NS = 1_790_000_000 * 10**9 // HOUR_NS * HOUR_NS
HEAD = {"venue": "test", "pairs": {}}


class Wall:
    """A local clock set by hand."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns


def frame(n: int) -> str:
    return f'{{"type":"NEW_TRADE","n":{n}}}'


def recorded(directory: Path, n_chunks: int, per_chunk: int = 10, **options: int) -> list[bytes]:
    """Write chunks of frames, one nanosecond apart; return the frames."""
    recorder = RawRecorder(directory, HEAD, wall_ns=Wall(), **options)
    frames = [frame(n) for n in range(n_chunks * per_chunk)]
    for n, text in enumerate(frames):
        recorder.frame(text, START_NS + n)
        if n % per_chunk == per_chunk - 1:
            assert recorder.flush()
    recorder.close()
    return [text.encode() for text in frames]


def read(directory: Path) -> tuple[list[bytes], list[str], Damage]:
    recording = RawRecording(directory)
    records = list(recording.records())
    frames = [r.payload for r in records if r.kind == "frame"]
    return frames, [r.kind for r in records if r.kind != "frame"], recording.damage


@pytest.mark.parametrize("text", ["{}", '{"a": 1}\n', "line\nline\r\n", "#header {}", "", b"\xff\x00 binary \n", "é", " {} "])
def test_a_frame_comes_back_byte_for_byte(tmp_path: Path, text: str | bytes) -> None:
    with RawRecorder(tmp_path, HEAD) as recorder:
        recorder.frame(text, 17)
    [record] = [r for r in RawRecording(tmp_path).records() if r.kind == "frame"]
    assert (record.local_ns, record.payload) == (17, text.encode() if isinstance(text, str) else text)


def test_a_file_is_text_to_any_zstd_and_starts_with_its_header(tmp_path: Path) -> None:
    frames = recorded(tmp_path, 3)
    [path] = find_recordings(tmp_path)
    with zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True) as reader:
        lines = reader.read().splitlines()
    assert lines[0].split(b" ")[1] == b"#header"
    assert [line.split(b" ", 1)[1] for line in lines[1:]] == frames


def test_files_turn_with_the_hour_and_with_their_size_and_read_as_one(tmp_path: Path) -> None:
    wall = Wall()
    recorder = RawRecorder(tmp_path, HEAD, wall_ns=wall, max_file_bytes=400)
    for n in range(12):
        wall.now_ns = START_NS + n * HOUR_NS // 4
        recorder.frame(frame(n) + "x" * 40, wall.now_ns)
        assert recorder.flush()
    recorder.close()
    names = [str(path.relative_to(tmp_path)) for path in find_recordings(tmp_path)]
    hour = time.strftime("test/%Y-%m-%d/%H", time.gmtime(START_NS / 1e9))
    assert names[:2] == [f"{hour}-000{SUFFIX}", f"{hour}-001{SUFFIX}"]
    assert len({Path(name).name[:2] for name in names}) == 3
    frames, notes, damage = read(tmp_path)
    assert [f.decode() for f in frames] == [frame(n) + "x" * 40 for n in range(12)]
    assert notes == [HEADER] * len(names)
    assert damage == Damage()


def test_a_recorder_never_writes_into_what_is_there(tmp_path: Path) -> None:
    first = recorded(tmp_path, 2)
    wall = Wall()
    wall.now_ns += 10**9
    again = RawRecorder(tmp_path, HEAD, wall_ns=wall)
    again.frame("later", wall.now_ns)
    again.close()
    assert len(find_recordings(tmp_path)) == 2
    assert read(tmp_path)[0] == [*first, b"later"]


@pytest.mark.parametrize("missing", [1, 5, 20, 33, 60])
def test_a_torn_file_is_read_to_its_last_whole_chunk(tmp_path: Path, missing: int) -> None:
    frames = recorded(tmp_path, 5)
    [path] = find_recordings(tmp_path)
    path.write_bytes(path.read_bytes()[:-missing])
    left, _, damage = read(tmp_path)
    assert left == frames[:40]
    assert (damage.torn_files, damage.damaged_bytes, damage.missing_chunks) == (1, 0, 0)


def test_every_cut_leaves_whole_chunks_alone(tmp_path: Path) -> None:
    frames = recorded(tmp_path, 4, 2)
    [path] = find_recordings(tmp_path)
    data = path.read_bytes()
    for length in range(0, len(data), 3):
        path.write_bytes(data[:length])
        left = read(tmp_path)[0]
        assert left == frames[: len(left)]
        assert len(left) % 2 == 0


def test_a_flipped_bit_costs_one_chunk_and_shows_as_a_gap(tmp_path: Path) -> None:
    frames = recorded(tmp_path, 5)
    [path] = find_recordings(tmp_path)
    data = bytearray(path.read_bytes())
    third = [c for c in range(len(data)) if data.startswith(b"HRAW", c)][3]
    for at in (third, third + 12, third + 40):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        left, notes, damage = read(tmp_path)
        assert left == frames[:20] + frames[30:]
        assert notes == [HEADER, GAP]
        assert (damage.missing_chunks, damage.torn_files) == (1, 0)
        assert damage.damaged_bytes > 0


def test_foreign_bytes_between_and_behind_chunks_are_passed_over(tmp_path: Path) -> None:
    frames = recorded(tmp_path, 3)
    [path] = find_recordings(tmp_path)
    data = path.read_bytes()
    second = data.index(b"HRAW", 60) - 8
    path.write_bytes(data[:second] + b"\x00" * 4096 + data[second:] + b"\x00" * 100)
    left, _, damage = read(tmp_path)
    assert left == frames
    assert (damage.damaged_bytes, damage.missing_chunks) == (4196, 0)


def test_a_recording_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    frames = recorded(tmp_path, 3)
    [path] = find_recordings(tmp_path)
    path.with_name(path.name.replace("-000", "-007")).write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes() * 2)
    left, _, damage = read(tmp_path)
    assert left == frames
    assert (damage.repeated_chunks, damage.missing_chunks) == (8 + 4 - 4, 0)


def test_lines_written_twice_and_a_second_recorder_beside_the_first_count_once(tmp_path: Path) -> None:
    wall = Wall()
    first = RawRecorder(tmp_path, HEAD, wall_ns=wall)
    wall.now_ns += 1
    second = RawRecorder(tmp_path, HEAD, wall_ns=wall)
    for n in range(6):
        for recorder in (first, first, second) if n < 4 else (second,):
            recorder.frame(frame(n), START_NS + 10 + n)
    first.close()
    second.close()
    left, notes, damage = read(tmp_path)
    assert left == [frame(n).encode() for n in range(6)]
    assert notes == [HEADER, HEADER]
    assert damage.repeated_records == 4 + 4


class FullDisk(RawRecorder):
    """A recorder whose disk takes `room` bytes in all, the last write in part."""

    room = 10**9

    def _open_next(self, hour: str):  # type: ignore[no-untyped-def, override]
        return LimitedFile(super()._open_next(hour), self)


class LimitedFile:
    def __init__(self, file, owner: FullDisk) -> None:  # type: ignore[no-untyped-def]
        self._file, self._owner = file, owner

    def write(self, data: memoryview) -> int:
        if self._owner.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = int(self._file.write(data[: self._owner.room]))
        self._owner.room -= written
        return written

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._file, name)


def test_a_full_disk_is_counted_holds_what_fits_in_memory_and_heals(tmp_path: Path) -> None:
    recorder = FullDisk(tmp_path, HEAD, max_buffer_bytes=1_000, wall_ns=Wall())
    recorder.frame(frame(0), START_NS)
    assert recorder.flush()
    recorder.room = 40  # the next chunk ends in the middle of its head
    for n in range(1, 100):
        recorder.frame(frame(n), START_NS + n)
        if n % 20 == 0:
            assert not recorder.flush()
    assert recorder.write_failures == 4
    kept = recorder.frames
    assert (kept + recorder.dropped_frames, recorder.dropped_frames > 50) == (100, True)
    recorder.room = 10**9
    assert recorder.flush()
    recorder.frame(frame(100), START_NS + 100)
    recorder.close()
    left, notes, damage = read(tmp_path)
    assert left == [frame(n).encode() for n in (*range(kept), 100)]
    assert notes == [HEADER, GAP]
    assert damage == Damage()


def test_a_directory_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "test").write_text("a file where a folder should be")
    with RawRecorder(tmp_path, HEAD, flush_s=0.01) as recorder:
        recorder.frame("{}", 1)
        time.sleep(0.05)
    assert recorder.write_failures >= 1
    assert recorder.counters()["written_bytes"] == 0


KILLED = """
import sys, time
from pathlib import Path
from helios.store.raw_recording import RawRecorder
recorder = RawRecorder(Path(sys.argv[1]), {"venue": "test"}, flush_s=0.2)
recorder.start()
n = 0
while True:
    recorder.frame(f'{{"n":{n}}}', time.time_ns())
    n += 1
    time.sleep(0.001)
"""


def test_kill_9_loses_at_most_the_last_second(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).resolve().parents[3])
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size > 2_000 for path in find_recordings(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    killed_ns = time.time_ns()
    process.wait()
    records = [r for r in RawRecording(tmp_path).records() if r.kind == "frame"]
    assert [r.json()["n"] for r in records] == list(range(len(records)))
    assert killed_ns - records[-1].local_ns < 10**9


def test_a_chunk_of_random_damage_never_raises(tmp_path: Path) -> None:
    data = b"".join(pack(Chunk(1, n, b"%d {}\n" % n)) for n in range(3))
    for at in range(len(data)):
        for broken in (data[:at] + data[at + 1 :], data[:at] + b"\xff" + data[at:], data[:at] + b"\x00" + data[at + 1 :]):
            chunks = list(unpack(broken, Damage()))
            assert {c.number for c in chunks} <= {0, 1, 2}
            assert len(chunks) >= 2
            assert all(c.raw == b"%d {}\n" % c.number for c in chunks)


def test_lines_that_are_none_of_ours_are_counted() -> None:
    damage = Damage()
    raw = b"12 {}\nx {}\n13\n\n-1 {}\n14 #note [1]\n15 #note {}\n16 #base64 ???\n17 #note {\n99999999999999999999 {}\n"
    assert [(r.local_ns, r.kind) for r in parse_lines(raw, damage)] == [(12, "frame"), (15, "note")]
    assert damage.damaged_lines == 7


def test_no_recording_and_two_venues_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no raw recording"):
        RawRecording(tmp_path)
    recorded(tmp_path, 1)
    RawRecorder(tmp_path, {"venue": "other"}).close()
    other = RawRecorder(tmp_path, {"venue": "other"})
    other.frame("{}", 1)
    other.close()
    with pytest.raises(DataError, match="other, test"):
        RawRecording(tmp_path)
    assert len(list(RawRecording(tmp_path / "test").records())) == 11
