"""Opens a page that runs an exported network in the browser: photographs, camera, first-layer maps.

    python -m alexnet_tf export --workdir=RUN --formats=web
    python -m alexnet_tf serve --workdir=RUN [--port=8000] [--noopen]

No image leaves the browser. Ctrl-C ends it.
Next: python -m alexnet_tf export --workdir=RUN --formats=saved_model,tflite
"""

import contextlib
import webbrowser

from absl import flags

from alexnet_tf.commands import cli
from alexnet_tf.exporting import web_server

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
_HOST = flags.DEFINE_string(
    "host", "localhost", "Where to listen; 0.0.0.0 lets other devices in, whose browsers give no camera without HTTPS."
)
_PORT = flags.DEFINE_integer("port", 8000, "Port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
_OPEN = flags.DEFINE_bool("open", True, "Open a browser.")


def main(arguments: list[str]) -> None:
    """Serves until Ctrl-C."""
    cli.check_no_arguments(arguments)
    with web_server.make_server(_WORKDIR.value, _HOST.value, _PORT.value) as server:
        address = f"http://{_HOST.value}:{server.server_address[1]}/"
        cli.show(f"{address}  (Ctrl-C ends it)")
        if _OPEN.value:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
