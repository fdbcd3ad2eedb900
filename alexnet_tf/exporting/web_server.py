"""Serves an exported page to a browser on this machine. Standard library only."""

import functools
import http.server
import os
import pathlib

from alexnet_tf.support import errors, shell


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files as they are now: a page that was exported again is not taken from the browser's cache."""

    extensions_map = {  # A machine's own table may lack or change these.
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".tflite": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Adds that nothing is to be kept."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


def make_server(workdir: str | os.PathLike[str], host: str, port: int) -> http.server.ThreadingHTTPServer:
    """Returns a server of a run's page; `serve_forever` runs it.

    Args:
        workdir: The run's directory.
        host: Name or address that it listens at.
        port: Port; 0 for any free one.

    Raises:
        UserError: If the run has no page, or the port cannot be had.
    """
    directory = pathlib.Path(workdir).expanduser() / "export" / "web"
    if not (directory / "index.html").is_file():
        raise errors.UserError(
            f"{directory} has no page yet. Export it first: "
            f"{shell.command_line('export', workdir=workdir, formats='web')}"
        )
    try:
        return http.server.ThreadingHTTPServer((host, port), functools.partial(_Handler, directory=str(directory)))
    except OSError as error:
        raise errors.UserError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Give another port: --port=0 takes a free one."
        ) from error
