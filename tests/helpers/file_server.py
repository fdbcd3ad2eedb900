"""A server of files on the loopback address, which answers as servers do on bad days."""

import contextlib
import http.server
import threading
import time


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        name, server = self.path.lstrip("/"), self.server
        server.requests.append((self.command, name, self.headers.get("Range")))
        behaviour, content = server.files.get(name, ("whole", None))
        if content is None:
            return self.send_error(404)
        start = 0
        if self.headers.get("Range") and behaviour != "no ranges":
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if behaviour == "login page":
            content = b"<html>Please log in.</html>"
            self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not with_body:
            return None
        end = len(content) // 2 if behaviour in ("breaks", "stalls", "slow") and not start else len(content)
        self.wfile.write(content[start:end])
        if behaviour == "stalls":
            self.wfile.flush()
            server.stop.wait(60)
        if behaviour == "slow":  # Until its reader is gone.
            with contextlib.suppress(OSError):
                for position in range(end, len(content), 100):
                    self.wfile.write(content[position : position + 100])
                    time.sleep(0.05)
        self.close_connection = True
        return None

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serve(**files):
    """Serves {name: (behaviour, content)}; gives the server, which has `address`, `requests` and `files`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.requests, server.files, server.stop = True, [], files, threading.Event()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
