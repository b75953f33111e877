"""Shards over http, from a server in this process."""

import contextlib
import http.server
import threading

import pytest

from speechbrain_wavjepa.dataio import shards as urls

CONTENT = bytes(range(256)) * 400


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; settings below make it behave badly."""

    knows_ranges = True
    break_after = None  # bytes sent before the connection breaks
    statuses = ()  # answered before it serves
    retry_after = ""
    requests = None

    def do_GET(self):
        cls = type(self)
        wanted = self.headers.get("Range")
        cls.requests.append(wanted)
        if cls.statuses:
            status, cls.statuses = cls.statuses[0], cls.statuses[1:]
            self.send_response(status)
            if self.retry_after:
                self.send_header("Retry-After", self.retry_after)
            self.end_headers()
            return
        start = 0
        if wanted and self.knows_ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        self.wfile.write(body[: self.break_after])
        self.close_connection = True

    def log_message(self, *arguments):
        """Keep the test's output clean."""


@contextlib.contextmanager
def serve(**settings):
    handler = type("Handler", (Server,), {"requests": [], **settings})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/0.tar", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(urls, "HTTP_PAUSE", 0)


def read_in_pieces(url, size=7000):
    with urls.open_url(url) as file:
        return b"".join(iter(lambda: file.read(size), b""))


def test_whole_file_in_one_request():
    with serve() as (url, handler):
        assert read_in_pieces(url) == CONTENT
        with urls.open_url(url) as file:
            assert file.read() == CONTENT
    assert handler.requests == [None, None]


def test_broken_connection_is_taken_up_where_it_broke():
    with serve(break_after=30_000) as (url, handler):
        assert read_in_pieces(url) == CONTENT
    assert handler.requests == [None] + [
        f"bytes={position}-" for position in (30_000, 60_000, 90_000)
    ]


def break_later(self):
    type(self).break_after = 40_000 * (len(self.requests) + 1)
    Server.do_GET(self)


def test_server_without_ranges_is_read_again_from_the_start():
    with serve(knows_ranges=False, do_GET=break_later) as (url, handler):
        assert read_in_pieces(url) == CONTENT
    assert len(handler.requests) == 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_busy_server_is_asked_again(status):
    with serve(statuses=(status, status)) as (url, handler):
        assert read_in_pieces(url) == CONTENT
    assert len(handler.requests) == 3


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between tries, which are not made."""
    found = []
    monkeypatch.setattr(urls, "HTTP_PAUSE", 1.0)
    monkeypatch.setattr(urls.time, "sleep", found.append)
    return found


def test_pauses_grow(pauses):
    with serve(statuses=(503,) * 5) as (url, _):
        assert read_in_pieces(url) == CONTENT
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    "asked, pause", [("7", 7.0), ("86400", 1.0), ("tomorrow", 1.0), ("0", 1.0)]
)
def test_short_pause_that_a_server_asks_for_is_made(pauses, asked, pause):
    with serve(statuses=(429,), retry_after=asked) as (url, _):
        assert read_in_pieces(url) == CONTENT
    assert pauses == [pause]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refused_url_is_not_asked_again(status):
    with serve(statuses=(status,) * 2) as (url, handler):
        with pytest.raises(ValueError, match=f"the server answers {status}"):
            urls.open_url(url)
    assert len(handler.requests) == 1


def test_many_broken_connections_that_bring_something():
    with serve(break_after=3000) as (url, handler):
        with urls.open_url(url) as file:
            assert file.read() == CONTENT
    assert len(handler.requests) == 35


def test_giving_up_names_the_url():
    with serve(break_after=0) as (url, handler):
        with urls.open_url(url) as file:
            with pytest.raises(ConnectionError, match="0.tar: gave up after"):
                file.read(10)
    assert len(handler.requests) == urls.HTTP_TRIES
