"""A page that runs the network in a browser: drop a photograph, see its classes and the first layer's maps.

    RUN/export/web/index.html, style.css, app.js, pixels.js   the page, as in `web_page/`
    RUN/export/web/run.json                                   what it shows of the run
    RUN/export/web/network.tflite, first_layer.tflite
    RUN/export/web/litert/                                    LiteRT.js, unless an address was given

Any web server can serve the folder; `make_server` does. Importing this loads no TensorFlow.
"""

import dataclasses
import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alexnet_tf.exporting import report
from alexnet_tf.support import atomic_files, errors, home, settings, shell

if TYPE_CHECKING:
    from alexnet_tf.exporting.export import ExportJob
    from alexnet_tf.network import model

# Of two packages of npm, Apache-2.0: https://www.npmjs.com/package/@litertjs/core
LITERT_JS_VERSION = "2.5.3"

# What a page needs of them: without threads, whose files need HTTP headers that plain servers do not send.
_LITERT_JS_FILES = (
    "core/dist/index.js",
    "core/wasm/litert_wasm_internal.js",
    "core/wasm/litert_wasm_internal.wasm",
    "core/wasm/litert_wasm_compat_internal.js",
    "core/wasm/litert_wasm_compat_internal.wasm",
    "wasm-utils/dist/index.js",
)

_PAGE = pathlib.Path(__file__).with_name("web_page")

_HELP = (
    "The page runs on LiteRT.js. Install npm (https://nodejs.org), or give a folder that has it, "
    "--litert_js=node_modules after `npm install @litertjs/core`, or an address that browsers can load it from: "
    "--litert_js=https://cdn.jsdelivr.net/npm"
)


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Where the page is served."""

    host: str = settings.setting(
        "localhost",
        "Where to listen; 0.0.0.0 lets other devices in, whose browsers give no camera without HTTPS.",
    )
    port: int = settings.setting(8000, "Port; 0 takes a free one.", lower=0, upper=65535)
    open: bool = settings.setting(True, "Open a browser.")


def write(job: "ExportJob") -> "Iterator[report.Artifact]":
    """Writes RUN/export/web and yields its line of the report.

    Raises:
        ExportError: If LiteRT.js is not in the given folder, or cannot be fetched.
    """
    import keras

    from alexnet_tf.exporting import tflite
    from alexnet_tf.network import alexnet

    directory = job.directory / "web"
    addresses = _provide_litert_js(job.options.litert_js, directory / "litert")
    network = alexnet.for_export(job.model, "convolution")
    stage = network.stage("conv1")
    first_layer = keras.Model(network.input, keras.ops.relu(stage.output))
    contents = {
        "network.tflite": tflite.convert(network, "dynamic", job.class_names),
        "first_layer.tflite": tflite.convert_maps(first_layer),
        "run.json": _describe(job, stage),
    }
    for source in sorted(_PAGE.iterdir()):
        text = source.read_text(encoding="utf-8")
        for key, address in addresses.items():
            text = text.replace("{{" + key + "}}", address)
        contents[source.name] = text.encode()
    for name, content in contents.items():
        atomic_files.write_bytes(directory / name, content)
    yield tflite.compare(
        job,
        "web page",
        directory / "network.tflite",
        contents["network.tflite"],
        size_bytes=report.size_on_disk(directory),
        next_step=f"To open the page: {shell.command_line('serve', workdir=job.run.path)}",
    )


def _describe(job: "ExportJob", first_stage: "model.Stage") -> bytes:
    """Returns what the page shows of the run, as JSON."""
    titles = ["Tower a", "Tower b"] if len(first_stage.layers) > 1 else ["One tower"]
    content = {
        "name": job.run.path.resolve().name,
        "architecture": job.run_config.architecture.name,
        "epoch": job.epoch,
        "classes": [" ".join(name.split()) for name in job.class_names],
        "top1_error": job.top1_error(job.expected),
        "compared_on": f"{len(job.images.pixels):,} validation images",
        "image_size": job.run_config.image_size,
        "resize": job.resize,
        "map_size": first_stage.output.shape[1],
        "towers": [{"title": title, "filters": layer.filters} for title, layer in zip(titles, first_stage.layers)],
    }
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "replace")


def _provide_litert_js(source: str | None, destination: pathlib.Path) -> dict[str, str]:
    """Copies LiteRT.js into the page's folder, or takes it from an address; returns the page's addresses of it."""
    core, utils = "./litert/core", "./litert/wasm-utils"
    if source is not None and source.startswith(("https://", "http://")):
        base = f"{source.rstrip('/')}/@litertjs"
        core, utils = f"{base}/core@{LITERT_JS_VERSION}", f"{base}/wasm-utils@{LITERT_JS_VERSION}"
    elif source is not None:
        _copy_litert_js(pathlib.Path(source), destination)
    elif not all((destination / name).is_file() for name in _LITERT_JS_FILES):
        with tempfile.TemporaryDirectory() as folder:
            _install_litert_js(folder)
            _copy_litert_js(pathlib.Path(folder), destination)
    return {"core": f"{core}/dist/index.js", "wasm_utils": f"{utils}/dist/index.js", "wasm": f"{core}/wasm/"}


def _install_litert_js(folder: str) -> None:
    """Has npm install the packages into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise errors.UserError(f"There is no npm here. {_HELP}")
    packages = [f"@litertjs/{name}@{LITERT_JS_VERSION}" for name in ("core", "wasm-utils")]
    command = [npm, "install", "--silent", "--ignore-scripts", "--prefix", folder, *packages]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["it says nothing"])[0]
        raise errors.UserError(f"npm could not fetch {' and '.join(packages)}: {reason}. {_HELP}")


def _copy_litert_js(source: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies what a page needs from a node_modules folder, or from one that has it."""
    for packages in (source / "@litertjs", source / "node_modules" / "@litertjs"):
        if all((packages / name).is_file() for name in _LITERT_JS_FILES):
            for name in _LITERT_JS_FILES:
                content = (packages / name).read_bytes()
                atomic_files.write_bytes(destination / name, content)
            return
    raise errors.UserError(f"--litert_js={source} does not hold @litertjs/core and @litertjs/wasm-utils. {_HELP}")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files as they are now: a page that was exported again is not taken from the browser's cache."""

    def end_headers(self) -> None:
        """Adds that nothing is to be kept."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


def make_server(workdir: str | os.PathLike[str], options: ServeOptions) -> http.server.ThreadingHTTPServer:
    """Returns a server of a run's page; `serve_forever` runs it.

    Args:
        workdir: The run's directory.
        options: Where it listens.

    Raises:
        UserError: If the run has no page, or the port is in use.
    """
    settings.check(options)
    directory = home.expand(workdir) / "export" / "web"
    if not (directory / "index.html").is_file():
        raise errors.UserError(
            f"{directory} has no page yet. Export it first: "
            f"{shell.command_line('export', workdir=workdir, formats='web')}"
        )
    handler = functools.partial(_Handler, directory=str(directory))
    try:
        return http.server.ThreadingHTTPServer((options.host, options.port), handler)
    except OSError as error:
        raise errors.UserError(
            f"Cannot listen on {options.host}:{options.port}: {error.strerror or error}. Give another port: --port=0 "
            "takes a free one."
        ) from error
