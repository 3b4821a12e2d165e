"""Every file gets one id that stays the same when it is published again, or disappears."""

from pathlib import Path

import pytest

from penstock.client.errors import PenstockError
from penstock.client.files import document_id, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.md", "sub/b.pdf", ".git/config", "sub/.hidden"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "docs"


def test_a_folder_names_files_by_their_path_below_it_and_skips_what_is_hidden(folder: Path) -> None:
    assert [name for name, _ in walk([folder])] == ["a.md", "sub/b.pdf"]


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


def test_a_file_that_is_gone_still_has_its_id(folder: Path) -> None:
    for name, path in walk([folder]):
        path.unlink()
        assert document_id(path, [folder]) == name
    assert document_id(folder / ".git/config", [folder]) is None
    assert document_id(Path("/elsewhere"), [folder]) is None
