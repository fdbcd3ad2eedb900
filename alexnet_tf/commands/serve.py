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
from alexnet_tf.exporting import web


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(RunOptions, web.ServeOptions):
    """Where to serve the page."""


def main(options: Options) -> None:
    """Serves until Ctrl-C."""
    with web.make_server(options.workdir or options.run(), options) as server:
        address = f"http://{options.host}:{server.server_address[1]}/"
        cli.show(f"{address}  (Ctrl-C ends it)")
        if options.open:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
