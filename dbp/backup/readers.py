"""Read the entries of a backup, from a folder or a tar archive."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from dbp.backup.layout import MANIFEST, is_valid
from dbp.errors import DataLoss, InvalidInput

# An archive that was cut, or whose bytes have changed.
_DAMAGE: Final = (tarfile.TarError, EOFError, zlib.error)


@dataclass(frozen=True)
class Item:
    """An entry: the open file of a file, or the text of a symbolic link."""

    name: str
    file: BinaryIO | None
    size: int = 0
    link: str = ""


@contextmanager
def items(path: Path) -> Iterator[Iterator[Item]]:
    """Yield the entries of a backup. Take one at a time, and read its file before the next.

    InvalidInput: there is no backup at the path; DataLoss: it is damaged; OSError.
    """
    try:
        if path.is_dir():
            yield _of_folder(path)
            return
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            yield _of_archive(archive, path)
    except FileNotFoundError as error:
        raise InvalidInput(f"{path}: there is no backup here") from error
    except _DAMAGE as error:
        raise DataLoss(f"{path}: no backup, or a damaged one: {error}") from error


def _of_folder(folder: Path) -> Iterator[Item]:
    if not (folder / MANIFEST).is_file():
        raise InvalidInput(f"{folder}: no backup of dbp: it has no {MANIFEST}")
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            inside = str(path.relative_to(folder))
            if path.is_symlink():
                yield _checked(folder, Item(inside, None, link=os.fspath(path.readlink())))
            elif name in files:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    yield _checked(folder, Item(inside, file, size))


def _of_archive(archive: tarfile.TarFile, path: Path) -> Iterator[Item]:
    for member in archive:
        if member.issym():
            yield _checked(path, Item(member.name, None, link=member.linkname))
        elif member.isreg():
            file = cast("BinaryIO", archive.extractfile(member))
            yield _checked(path, Item(member.name, file, member.size))
        else:
            raise DataLoss(f"{path}: damaged: {member.name!r} is no file")


def _checked(source: Path, item: Item) -> Item:
    """Return the item; DataLoss for a name or a link that could lead out of a folder."""
    if not is_valid(item.name) or (item.link and Path(item.link).name != item.link):
        raise DataLoss(f"{source}: damaged: it has an entry {item.name!r}")
    return item
