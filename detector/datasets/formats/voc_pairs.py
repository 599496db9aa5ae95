"""Pairs of an image and its PASCAL VOC annotation: which belong together, official layout or not."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.list_files import relative
from detector.datasets.formats.text_files import read_bytes
from detector.datasets.formats.voc_xml import VocAnnotation
from detector.datasets.problems import ProblemKind, ProblemLog
from detector.errors import DatasetError
from detector.io.image_paths import has_image_suffix, has_unread_suffix

_ANNOTATIONS = ("annotations", "annots", "xmls", "xml", "labels")


_IMAGES = ("jpegimages", "images", "imgs", "img", "pictures")


Parse = Callable[[Path], VocAnnotation]


_Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Pair:
    """An annotation and its picture, which may be absent. ``problem`` says what is wrong with the two;
    ``by_name`` that the annotation is called otherwise than the picture, which it names."""

    image_id: str
    image: Path
    annotation: Path
    problem: tuple[ProblemKind, str] | None = None
    by_name: bool = False

    def report_problem(self, log: ProblemLog) -> bool:
        """Report the problem, if there is one. Returns whether the picture has to be left out for it."""
        if self.problem is None:
            return False
        log.report(self.image_id, *self.problem)
        return self.problem[0] != "filename_mismatch"


@dataclass(frozen=True)
class ImageFinder:
    """Finds pictures by the names of annotations, and by what these say (``<filename>``, ``<folder>``)."""

    tree: FolderTree
    parse: Parse
    _known: dict[tuple[Path, _Wanted], dict[str, list[str]]] = field(default_factory=dict)
    _below: dict[Path, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in self.tree.files:
            self._below.setdefault(folder.parent, []).append(folder)

    def pairs(self, annotations: Iterable[Path]) -> list[Pair]:
        """Return the picture of each annotation; those that several claim are problems."""
        return list(_judged([self._pair(path) for path in annotations]))

    def _pair(self, path: Path) -> Pair:
        places = self._places(path.parent)
        annotation = self._annotation(path)
        stated = (
            self._stated(path, places, annotation) if annotation is not None and annotation.filename else None
        )
        place, names = next(
            ((folder, pictures) for folder in places if (pictures := self._names(folder).get(path.stem))),
            (places[0], []),
        )
        problem: tuple[ProblemKind, str] | None = None
        if len(names) == 1 or (names and stated is not None and stated in [place / name for name in names]):
            image = place / names[0] if len(names) == 1 else stated or path
            if stated is not None and stated != image:
                message = (
                    f"annotation {path} names {stated}, but is called like {image}: taken for the latter"
                )
                problem = "filename_mismatch", message
            return Pair(self.tree.image_id(image), image, path, problem)
        if names:
            text = ", ".join(names)
            problem = (
                "duplicate_id",
                f"annotation {path} may be of any of {text}: let its <filename> say which",
            )
            return Pair(self.tree.image_id(place / names[0]), place / names[0], path, problem)
        if stated is not None:
            return Pair(self.tree.image_id(stated), stated, path, by_name=True)
        unread = self._unread(path, places, annotation)
        if unread is not None:
            return Pair(self.tree.image_id(unread), unread, path)
        holder = next((folder for folder in places[1:] if self._names(folder)), places[0])
        image = holder / f"{path.stem}.jpg"
        return Pair(self.tree.image_id(image), image, path)

    def _unread(self, path: Path, places: list[Path], annotation: VocAnnotation | None) -> Path | None:
        """Return the picture of an annotation that has none, where it is there in a kind that is not read:
        whoever opens it says so."""
        stems = [
            path.stem,
            *([relative(annotation.filename).stem] if annotation is not None and annotation.filename else []),
        ]
        names = ((place, self._names(place, has_unread_suffix)) for place in places)
        found = (
            place / name for place, pictures in names for stem in stems for name in pictures.get(stem, ())
        )
        return next(found, None)

    def _annotation(self, path: Path) -> VocAnnotation | None:
        try:
            return self.parse(path)
        except (FileNotFoundError, DatasetError):
            return None  # reading its record names the problem

    def _stated(self, path: Path, places: list[Path], annotation: VocAnnotation) -> Path | None:
        """Return the picture that an annotation names, if it is there: by its file's name, or without
        suffix."""
        wanted = relative(annotation.filename)
        bases = (path.parent, path.parent.parent, *places) if annotation.folder else ()
        folders = [base / relative(annotation.folder) for base in bases]
        for place in [*places, *folders]:
            for end in dict.fromkeys((wanted, Path(wanted.name))):
                holder = place / end.parent
                if end.name in self.tree.files.get(holder, ()) and has_image_suffix(end.name):
                    return holder / end.name
                names = self._names(holder).get(end.name, []) if holder in self.tree.files else []
                if len(names) == 1:
                    return holder / names[0]
        return None

    def _names(self, folder: Path, wanted: _Wanted = has_image_suffix) -> dict[str, list[str]]:
        """Return the names of the pictures in a folder, by their names without suffix."""
        if (folder, wanted) not in self._known:
            found: dict[str, list[str]] = {}
            for name in self.tree.files.get(folder, ()):
                if wanted(name):
                    found.setdefault(Path(name).stem, []).append(name)
            self._known[folder, wanted] = found
        return self._known[folder, wanted]

    def _places(self, folder: Path) -> list[Path]:
        """Return where the pictures of a folder of annotations may lie: in it, or where ``images`` is for a
        part of its path that says ``annotations``, in any case."""
        places = [folder]
        parts = folder.relative_to(self.tree.root).parts
        for index, part in enumerate(parts):
            if part.lower() in _ANNOTATIONS:
                beside = self._below.get(self.tree.root.joinpath(*parts[:index]), [])
                named = [sibling for sibling in beside if sibling.name.lower() in _IMAGES]
                named.sort(key=lambda sibling: _IMAGES.index(sibling.name.lower()))
                places += [sibling.joinpath(*parts[index + 1 :]) for sibling in named]
        if parts and parts[-1].lower() in _ANNOTATIONS:
            places.append(folder.parent)
        return [place for place in dict.fromkeys(places) if place in self.tree.files]


def voc_home(root: Path) -> Path:
    """Return the one folder with ``JPEGImages`` and ``Annotations``; DatasetError if there is none or
    several."""
    homes = voc_homes(root)
    if not homes:
        raise DatasetError(
            f"{root} holds no JPEGImages/ and Annotations/: give the folder that does, as PASCAL VOC lays it "
            "out (VOCdevkit/VOC2007)"
        )
    if len(homes) > 1:
        raise DatasetError(f"{root} holds {len(homes)} data sets: give one of {', '.join(map(str, homes))}")
    return homes[0]


def voc_homes(root: Path) -> list[Path]:
    """Return the folders with ``Annotations`` beside ``JPEGImages`` or, where the pictures are elsewhere,
    beside ``ImageSets``: ``root`` itself, or those of one level below."""
    candidates = [root], sorted(root.glob("VOC*")), sorted(root.glob("VOCdevkit/VOC*"))
    for level in candidates:
        homes = [
            path
            for path in level
            if (path / "Annotations").is_dir()
            and any((path / part).is_dir() for part in ("JPEGImages", "ImageSets"))
        ]
        if homes:
            return homes
    return []


def official_pairs(home: Path, finder: ImageFinder) -> list[Pair]:
    """Return every annotation and its picture, by the annotation's path below ``Annotations``."""
    below = home / "Annotations"
    paths = [
        folder / name
        for folder, names in finder.tree.with_suffix(".xml")
        if folder == below or folder.is_relative_to(below)
        for name in names
    ]
    pairs = [
        replace(pair, image_id=pair.annotation.relative_to(below).with_suffix("").as_posix())
        for pair in finder.pairs(paths)
    ]
    images = home / "JPEGImages"
    return [  # where a picture is absent, it is so from JPEGImages
        pair
        if pair.image.parent != pair.annotation.parent
        or pair.image.name in finder.tree.files[pair.image.parent]
        else replace(pair, image=images / f"{pair.image_id}.jpg")
        for pair in pairs
    ]


def _judged(pairs: list[Pair]) -> Iterator[Pair]:
    """Yield the pairs; of several annotations of one picture, the one that is called like it stays, if one
    is."""
    claims: dict[Path, list[Pair]] = {}
    for pair in pairs:
        claims.setdefault(pair.image, []).append(pair)
    for pair in pairs:
        others = [other for other in claims[pair.image] if other is not pair]
        rivals = [other for other in others if not other.by_name]
        alone = not others or (not pair.by_name and not rivals)
        copied = not pair.by_name and _same_bytes([claim.annotation for claim in (pair, *rivals)])
        if pair.problem is not None or alone or copied:
            yield pair
        else:
            message = f"annotations {pair.annotation} and {others[0].annotation} are both of {pair.image}"
            image = pair.annotation if pair.by_name else pair.image  # which may be that of the other
            problem: tuple[ProblemKind, str] = ("duplicate_id", f"{message}: leave one of them")
            yield replace(pair, image=image, problem=problem)


def _same_bytes(paths: Iterable[Path]) -> bool:
    try:
        return len({read_bytes(path) for path in paths}) == 1
    except (OSError, DatasetError):
        return False
