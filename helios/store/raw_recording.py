"""Raw recordings: what a venue sent, exactly as it came, appended to files that survive a kill and a full disk.

`<dir>/<venue>/<date>/<HH>-<NNN>.raw.zst`, a new file each hour (UTC, local clock) and whenever one has grown large. A flush ends
a chunk, so a process killed with -9 loses at most what came since the last one. See `helios.store.raw_format` for the bytes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from helios.errors import DataError
from helios.store.raw_format import FRAME, GAP, HEADER, Chunk, Damage, Record, frame_line, note_line, pack, parse_lines, unpack

log = logging.getLogger(__name__)

SUFFIX = ".raw.zst"
FORMAT_VERSION = 1
MAX_CHUNK_BYTES = 4 * 1024 * 1024
NS_PER_S = 1_000_000_000


class RawRecorder:
    """Append frames and notes to a recording; a thread of its own writes them, so a slow disk never holds up the feed.

    Parameters
    ----------
    directory : Path
        Recordings lie under `<directory>/<venue>`.
    header : mapping
        First line of every file, JSON; `venue` names the folder.
    flush_s : float, default=0.5
        Longest time a frame stays in memory while the disk takes what it is given.
    max_file_bytes : int
        Size at which a file is followed by the next.
    max_buffer_bytes : int
        What is held while the disk takes nothing. Beyond it frames are dropped, counted, and the gap is noted in the recording.
    wall_ns : callable
        Local clock, ns UTC.

    Notes
    -----
    `start()` begins the thread; without it `flush()` writes when called. No method raises for the disk: `write_failures` counts,
    and the first failure of a row is logged.
    """

    def __init__(
        self,
        directory: Path,
        header: Mapping[str, Any],
        *,
        flush_s: float = 0.5,
        max_file_bytes: int = 256 * 1024 * 1024,
        max_buffer_bytes: int = 64 * 1024 * 1024,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._directory = directory / str(header["venue"])
        self._wall_ns = wall_ns
        self._recording = wall_ns()
        self._header = {"format": FORMAT_VERSION, "recording": self._recording, **header}
        self._flush_s, self._max_file_bytes, self._max_buffer_bytes = flush_s, max_file_bytes, max_buffer_bytes
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._lines: list[bytes] = []
        self._buffered_bytes = 0
        self._unnoted = 0  # frames dropped since the last line that was kept
        self._file: FileIO | None = None
        self._hour = ""
        self._size = 0
        self._number = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False
        self.frames = self.dropped_frames = self.write_failures = self.raw_bytes = self.written_bytes = self.files = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Begin to write in the background. After calling this you must call `close`."""
        self._thread = threading.Thread(target=self._run, name="raw-recording", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits and end; never raises for the disk."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        with self._writing:
            self._close_file()

    def frame(self, frame: str | bytes, local_ns: int) -> None:
        """Keep a frame as it was received at `local_ns`."""
        if self._keep(frame_line(local_ns, frame), local_ns):
            self.frames += 1
        else:
            self.dropped_frames += 1

    def note(self, kind: str, value: Mapping[str, Any], local_ns: int | None = None) -> None:
        """Keep a note of the recorder's own: a connection's state, the venue's clock, candles fetched."""
        at_ns = self._wall_ns() if local_ns is None else local_ns
        self._keep(note_line(at_ns, kind, dict(value)), at_ns)

    def flush(self) -> bool:
        """Write what waits as one or more chunks; whether the disk took everything."""
        with self._writing:
            with self._lock:
                lines, self._lines, self._buffered_bytes = self._lines, [], 0
            for at, group in _groups(lines):
                if not self._try_write(b"".join(group)):
                    self._put_back(lines[at:])
                    return False
            return True

    def counters(self) -> dict[str, int]:
        """Return what was recorded and what was not."""
        names = ("frames", "dropped_frames", "write_failures", "raw_bytes", "written_bytes", "files")
        return {name: getattr(self, name) for name in names}

    def _keep(self, line: bytes, local_ns: int) -> bool:
        with self._lock:
            if self._buffered_bytes + len(line) > self._max_buffer_bytes:
                self._unnoted += 1
                return False
            if self._unnoted:
                self._lines.append(note_line(local_ns, GAP, {"frames": self._unnoted}))
                self._unnoted = 0
            self._lines.append(line)
            self._buffered_bytes += len(line)
            return True

    def _put_back(self, lines: list[bytes]) -> None:
        with self._lock:
            self._lines = lines + self._lines
            self._buffered_bytes = sum(map(len, self._lines))

    def _run(self) -> None:
        while not self._stop.wait(self._flush_s):
            self.flush()

    def _try_write(self, raw: bytes) -> bool:
        try:
            self._append(raw)
        except OSError as error:
            self.write_failures += 1
            if not self._is_failing:
                log.error("the recording cannot be written, frames are held and then dropped: %s", error)
            self._is_failing = True
            self._cut_back()
            return False
        if self._is_failing:
            log.warning("the recording is written again; frames dropped so far: %d", self.dropped_frames)
        self._is_failing = False
        return True

    def _append(self, raw: bytes) -> None:
        now = datetime.fromtimestamp(self._wall_ns() / NS_PER_S, UTC)
        hour = now.strftime("%Y-%m-%d/%H")
        if self._file is None or hour != self._hour or self._size >= self._max_file_bytes:
            self._close_file()
            self._file, self._hour, self._size = self._open_next(hour), hour, 0
        if self._size == 0:
            self._put(note_line(self._wall_ns(), HEADER, self._header))
        self._put(raw)
        self.raw_bytes += len(raw)

    def _put(self, raw: bytes) -> None:
        assert self._file is not None
        data = pack(Chunk(self._recording, self._number, raw))
        rest = memoryview(data)
        while rest:  # a disk that is nearly full takes a part and says so
            rest = rest[self._file.write(rest) :]
        self._number += 1
        self._size += len(data)
        self.written_bytes += len(data)

    def _open_next(self, hour: str) -> FileIO:
        # Never an existing file: its tail may be torn, and it may be somebody else's.
        folder = self._directory / hour.split("/")[0]
        folder.mkdir(parents=True, exist_ok=True)
        for part in range(1_000_000):
            path = self._directory / f"{hour}-{part:03d}{SUFFIX}"
            try:
                file = path.open("xb", buffering=0)
            except FileExistsError:
                continue
            self.files += 1
            return file
        raise OSError(f"{folder} is full of recordings of one hour")

    def _cut_back(self) -> None:
        # A chunk of which the disk took a part is removed, so that the next one stands behind a whole one.
        if self._file is None:
            return
        try:
            self._file.truncate(self._size)
            self._file.seek(self._size)
        except OSError:
            self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                log.error("the recording was not closed cleanly: %s", error)


class RawRecording:
    """A recording to be read, of one venue, by one or more runs of a recorder.

    Parameters
    ----------
    directory : Path
        What `RawRecorder` was given, or a folder below it.

    Raises
    ------
    DataError
        If there is none, or the recordings of several venues.
    """

    def __init__(self, directory: Path) -> None:
        self.files = find_recordings(directory)
        if not self.files:
            raise DataError(f"{directory}: no raw recording (<venue>/<date>/<HH>-<NNN>{SUFFIX})")
        venues = sorted({path.parent.parent.name for path in self.files})
        if len(venues) > 1:
            raise DataError(f"{directory}: recordings of {', '.join(venues)}; name one of the folders")
        self.damage = Damage()

    def records(self) -> Iterator[Record]:
        """Yield everything in order. Where something is missing a `gap` stands; `damage` says what and how much.

        Raises
        ------
        DataError
            If a file cannot be read at all.
        """
        self.damage = Damage()
        position = _Position(self.damage)
        for path in self.files:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path}: {error.strerror or error}") from error
            for chunk in unpack(data, self.damage):
                yield from position.take(chunk)


class _Position:
    # What has been read so far: lets each chunk and each line through once and marks what is missing.
    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._last: dict[int, int] = {}  # recording -> newest chunk
        self._recording: int | None = None
        self._newest_ns = 0  # over all recordings before the present one
        self._before: Record | None = None

    def take(self, chunk: Chunk) -> Iterator[Record]:
        expected = self._last.get(chunk.recording, -1) + 1
        if chunk.number < expected:
            self._damage.repeated_chunks += 1
            return
        self._last[chunk.recording] = chunk.number
        if chunk.recording != self._recording:
            self._recording = chunk.recording
            self._newest_ns = 0 if self._before is None else self._before.local_ns
        missing = chunk.number - expected
        for record in parse_lines(chunk.raw, self._damage):
            if missing:
                self._damage.missing_chunks += missing
                yield Record(record.local_ns, GAP, b'{"chunks":%d}' % missing)
                missing = 0
            if self._is_new(record):
                self._before = record
                yield record

    def _is_new(self, record: Record) -> bool:
        # The same words at the same nanosecond are one event written twice; so is what a second recorder wrote beside the first.
        is_old = record == self._before or (record.kind == FRAME and record.local_ns <= self._newest_ns)
        self._damage.repeated_records += is_old
        return not is_old


def find_recordings(directory: Path) -> list[Path]:
    """Return the files of a recording in order of time: `directory` may be what was recorded to, a venue's or a day's folder."""
    patterns = (f"*{SUFFIX}", f"*/*{SUFFIX}", f"*/*/*{SUFFIX}")
    return sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})


def _groups(lines: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    # Index of the first line and the lines of one chunk each.
    start = size = 0
    for index, line in enumerate(lines):
        if size and size + len(line) > MAX_CHUNK_BYTES:
            yield start, lines[start:index]
            start, size = index, 0
        size += len(line)
    if size:
        yield start, lines[start:]
