"""Numbers of an .npy or .npz file, whatever has become of it; objects, which could run code, are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from util.errors import MediaError
from util.files import open_file

_MOST_BYTES = 10**9  # of all arrays: some kilobytes can be packed terabytes


def read_arrays(path: str | Path, kind: str) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz by name; the one of an .npy has the name "".

    kind: what the file should be, for the message, e.g. `.npz ground truth`.
    Raises MediaError: missing, damaged, too large, or something else.
    """
    try:
        with open_file(path) as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    size = sum(member.file_size for member in archive.infolist())
                if size > _MOST_BYTES:
                    raise ValueError(f"it holds {size / 1e9:.0f} GB, {_MOST_BYTES / 1e9:.0f} are the most")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            return {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # damaged files make numpy raise nearly anything
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise MediaError(f"{path}: not a readable {kind}: {reason}") from error
