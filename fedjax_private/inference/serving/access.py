"""The access token of a service, and the quota of images that it may be used for."""

import hashlib
import json
import os
import stat
from pathlib import Path

from fedjax_private.encryption.errors import RefusedError

TOKEN_BYTES = 32


def default_token_file() -> Path:
    """The default path of the token, in the user's configuration."""
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "fedjax_private" / "inference_token"


def make_token(path: Path) -> bytes:
    """Returns the token in a file; makes the file, readable by its owner, if missing.

    Raises:
        ValueError: if the file cannot be written, or `read_token` refuses it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_token(path)
    except OSError as error:
        raise ValueError(
            f"cannot write the token to {path} ({error.strerror}): choose another path."
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(os.urandom(TOKEN_BYTES).hex() + "\n")
    return read_token(path)


def read_token(path: Path) -> bytes:
    """Returns the token in a file, (32,) bytes.

    Raises:
        ValueError: if the file cannot be read, others than its owner may read it, or it
            holds no token.
    """
    try:
        others = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        text = path.read_text(errors="replace").strip()
    except OSError as error:
        raise ValueError(
            f"cannot read the token in {path} ({error.strerror}): give the path of a "
            "copy of the server's token file."
        ) from error
    if others:
        raise ValueError(
            f"others than its owner may read the token in {path}: chmod 600 {path}."
        )
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != TOKEN_BYTES:
        raise ValueError(
            f"{path} holds no token of {2 * TOKEN_BYTES} hexadecimal digits: give the "
            "path of another file."
        )
    return token


class Quota:
    """The number of images that holders of a token may still ask about.

    It counts over all sessions. Images are charged on disk before they are evaluated,
    so that a restarted or killed server goes on counting.

    Args:
        token: a new token begins at 0.
        limit: images in all.
        path: of the file with the count.

    Attributes:
        limit: images in all.

    Raises:
        ValueError: if the file cannot be read, or holds no count.
    """

    def __init__(self, token: bytes, limit: int, path: Path) -> None:
        self.limit, self._path = limit, path
        # A digest: the file names the token that it counts for, and is not secret.
        self._token = hashlib.sha256(b"quota" + token).hexdigest()
        self._spent = self._read()

    @property
    def left(self) -> int:
        """Images that may still be asked about."""
        return max(0, self.limit - self._spent)

    def check(self, images: int) -> None:
        """Raises RefusedError if fewer images than this are left."""
        if images > self.left:
            raise RefusedError(
                f"the query limit of this access token is reached: {self.left} images "
                f"of {self.limit} are left, and a request counts {images}."
            )

    def charge(self, images: int) -> None:
        """Counts images. Raises like `check`, or OSError if the file is not written."""
        self.check(images)
        spent = self._spent + images
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps({"token": self._token, "images": spent}))
        new.replace(self._path)
        self._spent = spent

    def _read(self) -> int:
        if not self._path.exists():
            return 0
        try:
            count = json.loads(self._path.read_text())
            token, images = count["token"], int(count["images"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self._path} holds no count of queries: remove it to count from 0."
            ) from error
        return max(0, images) if token == self._token else 0
