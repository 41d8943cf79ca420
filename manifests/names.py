"""The one place that matches names as people's tools write them with the files that are there."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from .images import IMAGE_SUFFIXES, UNREAD_SUFFIXES

# Endings that one picture's name may have in one file, and lack or have otherwise in another.
_ENDINGS = IMAGE_SUFFIXES | UNREAD_SUFFIXES | {".xml", ".txt", ".json"}
_QUOTES = "\"'`"


def plain_name(text: str) -> str:
    """A file name out of a list or a document, in the form used inside: relative parts with forward slashes.

    Spaces around it, quotes, ``./``, doubled slashes, backslashes and ``file://`` go; ``..``, a leading slash, a drive
    and the address of a web page stay, for :func:`manifests.files.why_unsafe` to refuse.
    """
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    if text.lower().startswith("file://"):
        text = unquote(text[7:])
    if not text or "://" in text:
        return text
    return str(PurePosixPath(text.replace("\\", "/")))


def shown_names(names: Iterable[str]) -> str:
    """Names joined by commas; one whose spaces or commas would not be seen for what they are is in quotes."""
    return ", ".join(repr(name) if " ".join(name.split()) != name or "," in name else name for name in names)


def same_name(text: str) -> str:
    """What two spellings of one name share: Unicode's composed form, in one case, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def without_ending(name: str) -> str:
    """A file's path without its extension, where that is one of a picture or an annotation: ``a.b`` stays ``a.b``."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in _ENDINGS else name


class NameIndex:
    """Finds the file that a name means among those there are, the nearest spelling first.

    First the very name; then the same but for case, Unicode form and spaces; then but for the extension; and with
    ``folders`` also under other folders: the file whose path has the most last parts in common. A name that two files
    fit equally well means neither.
    """

    def __init__(self, names: Iterable[str], *, folders: bool = True) -> None:
        self._names = frozenset(names)
        self._folders = folders
        self._tables: dict[Callable[[str], str], Mapping[str, Sequence[str]]] = {}

    def find(self, text: str) -> str | None:
        """The name of the file that ``text`` means, or None."""
        found = self.candidates(text)
        return found[0] if len(found) == 1 else None

    def candidates(self, text: str) -> Sequence[str]:
        """All files that ``text`` may equally well mean, by the nearest spelling that any has."""
        if text in self._names:
            return [text]
        name = plain_name(text)
        if name in self._names:
            return [name]
        if not name or "://" in name or ".." in PurePosixPath(name).parts:
            return []
        for key in (same_name, _same_but_ending):
            if found := self._table(key).get(key(name)):
                return found
        if self._folders:
            for last in (_last, _last_but_ending):
                if found := self._table(last).get(last(name)):
                    return _nearest_folders(name, found)
        return []

    def _table(self, key: Callable[[str], str]) -> Mapping[str, Sequence[str]]:
        if key not in self._tables:
            table = defaultdict(list)
            for name in sorted(self._names):
                table[key(name)].append(name)
            self._tables[key] = table
        return self._tables[key]


def match_names(wanted: Collection[str], files: Collection[str], *, folders: bool) -> dict[str, str]:
    """Pair each wanted name with a file of its own: exact names first, so that a loose match never takes their file.

    Args:
        wanted: names as written.
        files: names of the files that there are.
        folders: whether a name may stand under other folders than its file.

    Returns:
        the file of each wanted name that has one; a file that two names fit goes to neither.
    """
    exact = {name: name for name in wanted if name in files}
    free = NameIndex(set(files) - set(exact), folders=folders)
    loose = {name: file for name in wanted if name not in exact and (file := free.find(name)) is not None}
    takers: dict[str, list[str]] = defaultdict(list)
    for name, file in loose.items():
        takers[file].append(name)
    return exact | {name: file for name, file in loose.items() if len(takers[file]) == 1}


def _same_but_ending(name: str) -> str:
    return same_name(without_ending(name))


def _last(name: str) -> str:
    return same_name(PurePosixPath(name).name)


def _last_but_ending(name: str) -> str:
    return _same_but_ending(PurePosixPath(name).name)


def _nearest_folders(name: str, found: Sequence[str]) -> Sequence[str]:
    """Choose the files of one name whose folders agree with it for the most parts, from the last one on."""

    def shared(file: str) -> int:
        ours, theirs = (list(map(same_name, reversed(PurePosixPath(n).parts[:-1]))) for n in (name, file))
        count = 0
        for one, other in zip(ours, theirs, strict=False):
            if one != other:
                break
            count += 1
        return count

    most = max(map(shared, found))
    return [file for file in found if shared(file) == most]
