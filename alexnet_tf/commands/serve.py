"""Opens a page that runs an exported network in the browser: photographs, camera, first-layer maps.

    python -m alexnet_tf export --workdir=RUN --formats=web
    python -m alexnet_tf serve --workdir=RUN [--port=8000] [--noopen]

No image leaves the browser. Ctrl-C ends it.
Next: python -m alexnet_tf export --workdir=RUN --formats=saved_model,tflite
"""

import contextlib
import dataclasses
import webbrowser

from alexnet_tf.commands import cli
from alexnet_tf.commands.options import RunOptions
from alexnet_tf.exporting import web_server
from alexnet_tf.support.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Where to serve the page."""

    host: str = setting(
        "localhost",
        "Where to listen; 0.0.0.0 lets other devices in, whose browsers give no camera without HTTPS.",
    )
    port: int = setting(8000, "Port; 0 takes a free one.", lower=0, upper=65535)
    open: bool = setting(True, "Open a browser.")


def main(options: Options) -> None:
    """Serves until Ctrl-C."""
    with web_server.make_server(options.workdir, options.host, options.port) as server:
        address = f"http://{options.host}:{server.server_address[1]}/"
        cli.show(f"{address}  (Ctrl-C ends it)")
        if options.open:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
