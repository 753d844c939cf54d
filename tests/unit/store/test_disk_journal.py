from __future__ import annotations

from pathlib import Path

import pytest

from helios.errors import InvariantError
from helios.store.journal import DiskJournal
from tests.support.execution_fakes import fill, record


def names(entries: list) -> list[str]:  # type: ignore[type-arg]
    return [r.decision_id for r, _ in entries]


async def kept(path: Path, *ids: str) -> DiskJournal:
    journal = DiskJournal(path)
    for name in ids:
        entry = record(name=name)
        await journal.append(entry, [fill(entry)])
    return journal


async def test_entries_survive_reopening_exactly(tmp_path: Path) -> None:
    entry = record(name="a", quantity="0.123456789")
    await DiskJournal(tmp_path / "j").append(entry, [fill(entry, price="850000.5")])
    assert await DiskJournal(tmp_path / "j").entries() == [(entry, (fill(entry, price="850000.5"),))]


async def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert await DiskJournal(tmp_path / "j").entries() == []


@pytest.mark.parametrize("cut", [1, 2, 40])
async def test_a_torn_last_line_is_ignored_and_the_next_entry_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    await kept(path, "a", "b")
    path.write_bytes(path.read_bytes()[:-cut])
    assert names(await DiskJournal(path).entries()) == ["a"]
    await kept(path, "c")
    assert names(await DiskJournal(path).entries()) == ["a", "c"]


async def test_a_torn_only_line_leaves_an_empty_journal_that_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'[{"client_or')
    assert await DiskJournal(path).entries() == []
    await kept(path, "a")
    assert names(await DiskJournal(path).entries()) == ["a"]


@pytest.mark.parametrize("line", [0, 1, 2])
async def test_damage_of_a_complete_line_is_named_and_stops_trading(tmp_path: Path, line: int) -> None:
    path = tmp_path / "j"
    await kept(path, "a", "b", "c")
    lines = path.read_bytes().splitlines()
    lines[line] = lines[line].replace(b"quantity_base", b"quantity_bass")
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InvariantError, match=f"damaged at line {line + 1}"):
        await DiskJournal(path).entries()


async def test_drop_forgets_the_oldest_and_keeps_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = await kept(path, "a", "b", "c")
    await journal.drop(2)
    await kept(path, "d")
    assert names(await DiskJournal(path).entries()) == ["c", "d"]
    await journal.drop(2)
    assert await DiskJournal(path).entries() == []
