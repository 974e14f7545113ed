"""A reverse proxy that counts what passes, and fails as a seed says.

Faults of one request, drawn by its number: a 503 as S3 gives when it is busy, a connection that
is cut before, within or after the answer (the last is a request that was done and looks as if it
was not), and bytes that come slowly.
"""

import http.client
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 64 << 10


class Proxy:
    def __init__(self, port, seed=None, rate=0.0, pause=0.0):
        self.target, self.rate, self.pause = port, rate, pause
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.log = []       # (method, path, bytes of the answer's body)
        self.faults = []
        self.before = None  # called with (method, path) before a request is passed on
        self.answer = None  # (status, body) instead of any answer
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def pass_on(self):
                proxy.pass_on(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def draw(self):
        with self.lock:
            if self.random.random() >= self.rate:
                return None
            fault = self.random.choice(["503", "before", "within", "after", "slow"])
            self.faults.append(fault)
            return fault

    @staticmethod
    def cut(handler):
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def pass_on(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if self.before:
            self.before(handler.command, handler.path)
        fault = self.draw()
        if self.pause:
            time.sleep(self.pause)
        if fault == "before":
            return self.cut(handler)
        if self.answer or fault == "503":
            status, text = self.answer or (503, b"<Error><Code>SlowDown</Code></Error>")
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(b"" if handler.command == "HEAD" else text)
            return None
        upstream = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        skip = {"host", "connection", "content-length"}
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in skip}
        headers["Content-Length"] = str(len(body))
        upstream.request(handler.command, handler.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if fault == "after":
            return self.cut(handler)
        handler.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                handler.send_header(key, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else len(data)
        handler.send_header("Content-Length", str(length or 0))
        handler.end_headers()
        if handler.command == "HEAD":
            data = b""
        with self.lock:
            self.log.append((handler.command, handler.path, len(data)))
        if fault == "within" and data:
            handler.wfile.write(data[: len(data) // 2])
            handler.wfile.flush()
            return self.cut(handler)
        for at in range(0, len(data), CHUNK):
            handler.wfile.write(data[at : at + CHUNK])
            if fault == "slow":
                time.sleep(0.02)
        return None
