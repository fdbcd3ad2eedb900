"""What a program can check of the house's rules: who imports whom, where flags are, what an import costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "alexnet_tf"

# A module may import modules of a lower level.
LEVELS = (
    ("config", "layers", "drawing"),
    ("distribution", "preprocessing", "alexnet", "optimization", "records", "weight_files", "workdir", "serving_client",
     "array_files", "turns"),
    ("caffe_files", "imagenet_tars", "pickles", "transfer", "profiling", "torch_peer", "openvino_peer"),
    ("caffe_nets", "datasets"),
    ("input_pipeline", "inspection", "monitoring", "evaluation", "preparing", "weights"),
    ("saved_model", "steps"),
    ("tflite",),
    ("training", "benchmarking", "exporting", "exchange", "features"),
    ("network_speed", "speed_report"),
)
SCRIPTS = [ROOT / "train.py", ROOT / "export.py", PACKAGE / "startup.py", *sorted((PACKAGE / "commands").glob("[a-z]*.py"))]
MODULES = [path for path in sorted(PACKAGE.glob("*.py")) if path.stem not in ("__init__", "__main__", "startup")]


def imports(path):
    """Returns the dotted names that a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def level(module):
    return next(index for index, names in enumerate(LEVELS) if module in names)


def test_every_module_has_a_level():
    assert {path.stem for path in MODULES} == {name for names in LEVELS for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_down(path):
    own = [name.split(".")[1] for name in imports(path) if name.startswith("alexnet_tf.")]
    assert all(level(name) < level(path.stem) for name in own), own


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_scripts_know_flags(path):
    assert not any(name.startswith("absl") for name in imports(path))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_thin(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("module", ["alexnet_tf", "alexnet_tf.config", "alexnet_tf.startup", "alexnet_tf.__main__"])
def test_import_loads_nothing_heavy(module):
    code = (f"import sys, {module}; "
            "print(sorted({'tensorflow', 'keras', 'numpy', 'matplotlib', 'tensorflow_datasets'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_config_needs_only_the_standard_library():
    assert imports(PACKAGE / "config.py") == {"dataclasses"}


def test_device_names_are_in_distribution_only():
    for path in MODULES:
        if path.stem != "distribution":
            text = path.read_text(encoding="utf-8")
            assert '"GPU' not in text and "/cpuinfo" not in text and "CPU:" not in text, path
