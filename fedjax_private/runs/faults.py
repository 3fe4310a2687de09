"""Where in a user's own code an error arose."""

import sysconfig
import traceback
from pathlib import Path

import fedjax_private

# Folders whose files are no user's: the library's with its commands, and Python's.
_LIBRARY = Path(fedjax_private.__file__).resolve().parent
_OURS = (_LIBRARY, _LIBRARY.parent / "experiments")
_INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "purelib", "platlib")
)


def with_place(error: Exception) -> str:
    """The message of an error, with the line of the user's code that it comes from.

    That line is the innermost one of a file that is neither this library's nor an
    installed package's. The message is unchanged where there is none.

    Args:
        error: as it was caught.
    """
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_file() and not _known(path.resolve()):
            return f"{error} ({path.name}, line {frame.lineno})"
    return str(error)


def _known(path: Path) -> bool:
    return any(folder in path.parents for folder in (*_OURS, *_INSTALLED))
