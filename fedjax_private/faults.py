"""Where in a user's own code an error arose."""

import sysconfig
import traceback
from pathlib import Path

# Folders whose files are no user's: the library's with its commands, and Python's.
_LIBRARY = Path(__file__).resolve().parent
_OURS = (_LIBRARY, _LIBRARY.parent / "experiments")
_INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "purelib", "platlib")
)


def with_place(error: Exception, message: str | None = None) -> str:
    """The message of an error, with the line of the user's code that it comes from.

    That line is the innermost one of a file that is neither this library's nor an
    installed package's. The message is unchanged where there is none.

    Args:
        error: as it was caught.
        message: in place of the error's.
    """
    message = str(error) if message is None else message
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_file() and not _known(path.resolve()):
            return f"{message} ({path.name}, line {frame.lineno})"
    return message


def _known(path: Path) -> bool:
    return any(folder in path.parents for folder in (*_OURS, *_INSTALLED))
