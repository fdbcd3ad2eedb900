"""A page that runs the network in a browser: drop a photograph, see its classes and the first layer's maps.

    RUN/export/web/index.html, style.css, app.js, pixels.js   the page, as in `web_page/`
    RUN/export/web/run.json                                   what it shows of the run
    RUN/export/web/network.tflite, first_layer.tflite
    RUN/export/web/litert/                                    LiteRT.js, unless an address was given

Any web server can serve the folder; `python -m alexnet_tf serve --workdir=RUN` does.
"""

import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator

import keras

from alexnet_tf.exporting import tflite, tflite_inspection
from alexnet_tf.exporting.export_job import Artifact, ExportError, ExportJob
from alexnet_tf.network import alexnet
from alexnet_tf.support import atomic_files

# Two packages of npm, Apache-2.0: https://www.npmjs.com/package/@litertjs/core
LITERT_JS = {"@litertjs/core": "2.5.3", "@litertjs/wasm-utils": "2.5.3"}

# What a page needs of them: without threads, whose files need HTTP headers that plain servers do not send.
_NEEDED = {
    "@litertjs/core": (
        "dist/index.js",
        "wasm/litert_wasm_internal.js",
        "wasm/litert_wasm_internal.wasm",
        "wasm/litert_wasm_compat_internal.js",
        "wasm/litert_wasm_compat_internal.wasm",
    ),
    "@litertjs/wasm-utils": ("dist/index.js",),
}

_PAGE = pathlib.Path(__file__).with_name("web_page")

_HELP = (
    "The page runs on LiteRT.js. Install npm (https://nodejs.org), or give a folder that has it, "
    "--litert_js=node_modules after `npm install @litertjs/core`, or an address that browsers can load it from: "
    "--litert_js=https://cdn.jsdelivr.net/npm"
)


def write(job: ExportJob) -> Iterator[Artifact]:
    """Writes RUN/export/web and yields its line of the report."""
    directory = job.directory / "web"
    addresses = _provide_litert_js(job.options.litert_js, directory)
    network = alexnet.for_export(job.model, "convolution")
    content = tflite.convert(network, "dynamic", job.class_names)
    path = directory / "network.tflite"
    maps = tflite.convert_maps(first_layer(network)[1])
    for name, each in (("network.tflite", content), ("first_layer.tflite", maps)):
        atomic_files.atomic_write(directory / name, lambda file: file.write(each))  # noqa: B023
    artifact = job.compare(
        "web page",
        directory,
        tflite.Runner(path),
        details=tflite_inspection.inspect(content).describe(),
        milliseconds=tflite.measure(path, job.images.pixels),
    )
    description = json.dumps(_describe(job, network), indent=2, ensure_ascii=False).encode("utf-8", "replace")
    atomic_files.atomic_write(directory / "run.json", lambda file: file.write(description))
    for source in sorted(_PAGE.iterdir()):
        text = source.read_text(encoding="utf-8")
        for key, address in addresses.items():
            text = text.replace("{{" + key + "}}", address)
        atomic_files.atomic_write(directory / source.name, lambda file: file.write(text.encode()))  # noqa: B023
    yield artifact


def first_layer(network: keras.Model) -> tuple[list[str], keras.Model]:
    """Returns (the names of the first stage's towers, the model from images to their maps after ReLU)."""
    names = [layer.name for layer in network.layers if layer.name in ("conv1", "conv1_a", "conv1_b")]
    maps = [keras.ops.relu(network.get_layer(name).output) for name in names]
    return names, keras.Model(network.input, maps[0] if len(maps) == 1 else keras.ops.concatenate(maps, axis=-1))


def _describe(job: ExportJob, network: keras.Model) -> dict[str, object]:
    """Returns what the page shows of the run."""
    names, model = first_layer(network)
    titles = ["Tower a", "Tower b"] if len(names) > 1 else ["One tower"]
    labels = job.images.labels
    winners = job.expected.argmax(axis=-1)
    return {
        "name": job.run.path.resolve().name,
        "architecture": job.run_config.architecture.name,
        "epoch": job.epoch,
        "classes": [" ".join(name.split()) for name in job.class_names],
        "top1_error": None if labels is None else float((winners != labels).mean()),
        "compared_on": f"{len(job.images.pixels):,} validation images",
        "image_size": job.run_config.image_size,
        "resize": job.resize,
        "map_size": int(model.output_shape[1]),
        "towers": [
            {"title": title, "filters": int(network.get_layer(name).output.shape[-1])}
            for title, name in zip(titles, names, strict=True)
        ],
    }


def _provide_litert_js(source: str | None, directory: pathlib.Path) -> dict[str, str]:
    """Copies LiteRT.js into the page's folder, or takes it from an address; returns the page's addresses of it.

    Raises:
        ExportError: If it is not in the given folder, or cannot be fetched.
    """
    if source is not None and source.startswith(("https://", "http://")):
        base = source.rstrip("/")
        core, utils = (f"{base}/{name}@{version}" for name, version in LITERT_JS.items())
    else:
        core, utils = "./litert/core", "./litert/wasm-utils"
        if source is not None:
            _copy_litert_js(_find_package_folders(pathlib.Path(source)), directory / "litert")
        elif not _is_complete(directory / "litert"):
            with tempfile.TemporaryDirectory() as folder:
                _copy_litert_js(_fetch_with_npm(pathlib.Path(folder)), directory / "litert")
    return {"core": f"{core}/dist/index.js", "wasm_utils": f"{utils}/dist/index.js", "wasm": f"{core}/wasm/"}


def _is_complete(folder: pathlib.Path) -> bool:
    return all((folder / name.split("/")[1] / each).is_file() for name, files in _NEEDED.items() for each in files)


def _find_package_folders(source: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the packages' folders in a node_modules folder, in one that has it, or in a page written before."""
    for root in (source / "node_modules", source, source / "litert", source.parent.parent):
        for scope in ("@litertjs", ""):
            folders = {name: root / scope / name.split("/")[1] for name in LITERT_JS}
            if all((folders[name] / each).is_file() for name, files in _NEEDED.items() for each in files):
                return folders
    raise ExportError(f"--litert_js={source} does not hold {' and '.join(LITERT_JS)}. {_HELP}")


def _fetch_with_npm(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Fetches the packages with npm and unpacks them into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(f"There is no npm here. {_HELP}")
    folders = {}
    for name, version in LITERT_JS.items():
        result = subprocess.run(
            [npm, "pack", "--silent", f"{name}@{version}"], cwd=folder, capture_output=True, text=True, timeout=600
        )
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["it says nothing"])[0]
            raise ExportError(f"npm could not fetch {name}@{version}: {reason}. {_HELP}")
        folders[name] = folder / name.split("/")[1]
        with tarfile.open(folder / result.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(folders[name], filter="data")
        folders[name] /= "package"
    return folders


def _copy_litert_js(folders: dict[str, pathlib.Path], destination: pathlib.Path) -> None:
    """Copies what a page needs of the packages."""
    for name, files in _NEEDED.items():
        for each in files:
            content = (folders[name] / each).read_bytes()
            atomic_files.atomic_write(destination / name.split("/")[1] / each, lambda file: file.write(content))  # noqa: B023
