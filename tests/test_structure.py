"""What a program can check of the package's structure: who imports whom, file sizes, what an import costs."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "alexnet_tf"
SCRIPTS = [ROOT / "train.py", ROOT / "export.py", *sorted((PACKAGE / "commands").glob("[a-z]*.py"))]


def test_imports_follow_the_contracts_of_pyproject():
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_thin(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.parametrize(
    "module", ["alexnet_tf", "alexnet_tf.architectures", "alexnet_tf.recipes", "alexnet_tf.cli", "alexnet_tf.__main__",
               "alexnet_tf.model_summary", "alexnet_tf.training.configure", *(
                   f"alexnet_tf.commands.{path.stem}" for path in SCRIPTS[2:])])
def test_import_loads_nothing_heavy(module):
    code = (f"import sys, {module}; "
            "print(sorted({'tensorflow', 'keras', 'matplotlib', 'tensorflow_datasets', 'PIL'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("wing", ["data", "evaluation", "weights", "training", "exporting", "benchmarks", "experiments"])
def test_each_wing_lists_its_files(wing):
    listed = [line.split()[0] for line in (PACKAGE / wing / "__init__.py").read_text().splitlines()
              if line.startswith("    ")]
    assert sorted(listed) == sorted(path.stem for path in (PACKAGE / wing).glob("[a-z]*.py"))


def test_device_names_are_in_two_modules_only():
    for path in PACKAGE.rglob("*.py"):
        if path.stem not in ("distribution", "devices", "xla") and "commands" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert '"GPU' not in text and "/cpuinfo" not in text and "CPU:" not in text, path
