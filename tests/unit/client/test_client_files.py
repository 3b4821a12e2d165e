"""Every file gets one id that stays the same when it is published again, or disappears."""

from pathlib import Path

import pytest

from penstock.client.errors import PenstockError
from penstock.client.files import differences, scan, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.md", "sub/b.pdf", ".git/config", "sub/.hidden"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "docs"


def test_a_folder_names_files_by_their_path_below_it_and_skips_what_is_hidden(folder: Path) -> None:
    assert [name for name, _ in walk([folder])] == ["a.md", "sub/b.pdf"]


def test_a_link_that_leads_out_of_the_folder_is_left_out(folder: Path, tmp_path: Path) -> None:
    """Whoever may put a link into a watched folder does not read the caller's other files."""
    (tmp_path / "private.txt").write_text("mine")
    (folder / "out.txt").symlink_to(tmp_path / "private.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.md").symlink_to(folder / "sub/b.pdf")
    assert [name for name, _ in walk([folder])] == ["a.md", "in.md", "sub/b.pdf"]


def test_a_single_file_is_called_by_its_name(folder: Path) -> None:
    assert list(walk([folder / "sub/b.pdf"])) == [("b.pdf", folder / "sub/b.pdf")]


def test_the_same_file_named_twice_is_one_document(folder: Path) -> None:
    assert [name for name, _ in walk([folder / "a.md", folder])].count("a.md") == 2


def test_two_files_of_one_name_are_refused_with_both_paths(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "a.md"
    other.write_text("another")
    with pytest.raises(PenstockError, match=r"would both be the document 'a\.md'"):
        list(walk([folder, other]))


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="does not exist"):
        list(walk([tmp_path / "nowhere"]))


def test_a_watch_sees_what_is_new_what_changed_and_what_is_gone(folder: Path) -> None:
    before = scan([folder])
    (folder / "new.txt").write_text("new")
    (folder / "sub/b.pdf").write_text("longer than it was")
    (folder / "a.md").unlink()
    changed, gone = differences(before, scan([folder]))
    assert sorted(changed) == ["new.txt", "sub/b.pdf"]
    assert gone == ["a.md"]


def test_a_watched_folder_that_is_gone_has_lost_all_its_documents(folder: Path) -> None:
    before = scan([folder])
    changed, gone = differences(before, scan([folder / "elsewhere"]))
    assert (changed, gone) == ({}, ["a.md", "sub/b.pdf"])
