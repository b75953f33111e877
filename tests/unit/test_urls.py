"""Shards over http, from a server in this process."""

import contextlib
import http.server
import threading

import pytest

from speechbrain_wavjepa.data import urls

CONTENT = bytes(range(256)) * 400


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; settings below make it behave badly."""

    knows_ranges = True
    break_after = None  # bytes sent before the connection breaks
    statuses = ()  # answered before it serves
    requests = None

    def do_GET(self):
        cls = type(self)
        wanted = self.headers.get("Range")
        cls.requests.append(wanted)
        if cls.statuses:
            status, cls.statuses = cls.statuses[0], cls.statuses[1:]
            self.send_error(status)
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


def test_busy_server_is_asked_again():
    with serve(statuses=(503, 500)) as (url, handler):
        assert read_in_pieces(url) == CONTENT
    assert len(handler.requests) == 3


def test_refused_url_is_not_asked_again():
    with serve(statuses=(404, 404)) as (url, handler):
        with pytest.raises(ValueError, match="0.tar: the server answers 404"):
            urls.open_url(url)
    assert len(handler.requests) == 1


def test_giving_up_names_the_url():
    with serve(break_after=0) as (url, handler):
        with urls.open_url(url) as file:
            with pytest.raises(ConnectionError, match="0.tar: gave up after"):
                file.read(10)
    assert len(handler.requests) == urls.HTTP_TRIES
