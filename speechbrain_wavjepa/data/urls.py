"""Files opened to be read forward: local paths, http(s) and hub urls.

Nothing is ever run as a command: any other scheme is refused.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import errno
import http.client
import logging
import os
import stat
import time
import urllib.error
import urllib.request
from typing import BinaryIO, Optional

logger = logging.getLogger(__name__)

HTTP_TIMEOUT = 60.0  # seconds without a byte before a connection counts lost
HTTP_TRIES = 8
HTTP_PAUSE = 1.0  # seconds before the second try, doubled for each further
PIECE = 2**20  # bytes asked for at once
LONGEST_PAUSE = 120.0  # seconds that a server may ask for
BUSY = (408, 425, 429)  # of the refusals, those that pass


def is_remote(path: str) -> bool:
    """Tell a url from a path on this machine's disks.

    Arguments
    ---------
    path : str
        A path or url.

    Returns
    -------
    bool
        True for a url.

    Raises
    ------
    ValueError
        If it is neither a path nor an http(s) or hub url.

    Example
    -------
    >>> is_remote("hf://datasets/someone/clips/0.parquet"), is_remote("a.tar")
    (True, False)
    >>> is_remote("pipe:cat a.tar")
    Traceback (most recent call last):
        ...
    ValueError: Cannot read 'pipe:cat a.tar': shards are local paths, http...
    """
    if path.startswith(("http://", "https://", "hf://")):
        return True
    if path.startswith("pipe:") or "://" in path:
        raise ValueError(
            f"Cannot read {path!r}: shards are local paths, http(s):// or "
            "hf:// urls; commands and other schemes are refused."
        )
    return False


def open_url(path: str) -> BinaryIO:
    """Open a local file, an http(s) url or a hub url for reading.

    Arguments
    ---------
    path : str
        A path, ``http(s)://...`` or ``hf://datasets/...``.

    Returns
    -------
    file
        With ``read`` and ``close``, to be used in a ``with`` statement. Local
        and hub files can also ``seek``.

    Raises
    ------
    ValueError
        If the scheme is another one, or an http server refuses the url.
    OSError
        If a local file cannot be opened, or a server does not answer.

    Example
    -------
    >>> path = getfixture("tmp_path") / "shard.tar"
    >>> _ = path.write_bytes(b"abc")
    >>> with open_url(str(path)) as file:
    ...     file.read(2)
    b'ab'
    """
    if not is_remote(path):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe, no file", path)
        return open(path, "rb")
    if path.startswith("hf://"):
        return hub_files().open(path, "rb")
    return HttpFile(path)


def hub_files():
    """Give the hub's file system, imported late because that is slow.

    Returns
    -------
    huggingface_hub.HfFileSystem
        It opens and lists ``hf://`` urls.

    Example
    -------
    >>> callable(hub_files().glob)
    True
    """
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


class HttpFile:
    """A url read forward; where a connection breaks, it is taken up again.

    Arguments
    ---------
    url : str
        The http(s) url.

    Raises
    ------
    ValueError
        If the server refuses the url (status 400 to 499).
    ConnectionError
        If nothing comes after several tries.

    Example
    -------
    >>> import functools, threading
    >>> from http.server import HTTPServer, SimpleHTTPRequestHandler
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "0.tar").write_bytes(b"abc")
    >>> serve = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    >>> with HTTPServer(("127.0.0.1", 0), serve) as server:
    ...     threading.Thread(target=server.handle_request).start()
    ...     with HttpFile(f"http://127.0.0.1:{server.server_port}/0.tar") as f:
    ...         f.read(2)
    b'ab'
    """

    def __init__(self, url: str):
        self.url = url
        self.position = 0
        self._response = None
        self._end: Optional[int] = None
        self.read(0)

    def __enter__(self) -> "HttpFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def seekable(self) -> bool:
        """Say that this file is read forward only."""
        return False

    def read(self, size: int = -1) -> bytes:
        """Read that many bytes, fewer only at the end of the file."""
        pieces, missing, failures = [], size, 0
        while True:
            pause = HTTP_PAUSE * 2**failures
            try:
                if self._response is None:
                    self._connect()
                wanted = PIECE if size < 0 else min(missing, PIECE)
                piece = self._response.read(wanted)
                pieces.append(piece)
                self.position += len(piece)
                missing -= len(piece)
                at_end = self._end is None and not piece
                if missing == 0 or at_end or self.position == self._end:
                    return b"".join(pieces)
                if piece:
                    failures = 0
                    continue
                reason = f"closed at byte {self.position} of {self._end}"
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
                pause = max(pause, _asked_pause(error))
            self.close()
            failures += 1
            if failures == HTTP_TRIES:
                break
            logger.warning(f"{self.url}: {reason}; asked again in {pause:g} s.")
            time.sleep(pause)
        raise ConnectionError(
            f"{self.url}: gave up after {HTTP_TRIES} tries ({reason}). The "
            "last checkpoint can be resumed when the server is back."
        )

    def _connect(self) -> None:
        """Ask for the rest of the file."""
        request = urllib.request.Request(self.url)
        if self.position:
            request.add_header("Range", f"bytes={self.position}-")
        try:
            response = urllib.request.urlopen(request, timeout=HTTP_TIMEOUT)
        except urllib.error.HTTPError as error:
            if 400 <= error.code < 500 and error.code not in BUSY:
                raise ValueError(
                    f"{self.url}: the server answers {error.code} "
                    f"{error.reason}; check the url."
                ) from error
            raise
        length = response.headers.get("Content-Length")
        start = self.position if response.status == 206 else 0
        self._end = None if length is None else start + int(length)
        while start < self.position:  # a server that knows no ranges
            skipped = len(response.read(min(self.position - start, 1 << 20)))
            if not skipped:
                raise ConnectionError(f"closed again at byte {start}")
            start += skipped
        self._response = response


def _asked_pause(error: Exception) -> float:
    """Give the seconds that a busy server asks for, 0 if none or too many."""
    headers = getattr(error, "headers", None)
    asked = headers.get("Retry-After", "") if headers else ""
    pause = float(asked) if asked.isdecimal() else 0.0
    return pause if pause <= LONGEST_PAUSE else 0.0
