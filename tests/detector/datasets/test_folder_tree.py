from pathlib import Path

from detector.datasets.folder_tree import FolderTree
from tests.detector.datasets.small_folders import picture, text


def test_hidden_and_deep_files_are_left_out_and_links_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    text(root / "a.txt")
    text(root / ".hidden.txt")
    text(root / ".git/config.txt")
    text(root / "__MACOSX/a.txt")
    text(root / "1/2/3/4/5/6/7/deep.txt")
    text(tmp_path / "elsewhere/b.txt")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    found = {
        folder.relative_to(root).as_posix(): names for folder, names in FolderTree.scan(root).files.items()
    }
    assert {folder: names for folder, names in found.items() if names} == {
        ".": ("a.txt",),
        "link": ("b.txt",),
    }


def test_of_two_pictures_of_one_name_the_jpeg_counts(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.c.PNG"):
        picture(tmp_path / name)
    text(tmp_path / "d.txt")
    assert FolderTree.scan(tmp_path).images(tmp_path) == {"a": "a.jpg", "b.c": "b.c.PNG"}
