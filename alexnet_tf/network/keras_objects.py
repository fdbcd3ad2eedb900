"""Lets Keras load this package's .keras files after `import alexnet_tf`, which itself imports no Keras.

Keras only builds custom layers whose classes are registered, which happens when the modules that define them are
imported. They are imported here as soon as Keras is. Standard library only.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence


def register_with_keras() -> None:
    """Imports the modules that define layers: at once if Keras is imported already, else right after it is."""
    if "keras" in sys.modules:
        _import_layers()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _import_layers() -> None:
    for name in ("layers", "lrn", "model"):
        importlib.import_module(f"alexnet_tf.network.{name}")


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras as usual, and has the layers imported after it; it does so once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: types.ModuleType) -> None:
                sys.meta_path.remove(self)  # Not before: TensorFlow also looks for Keras without importing it.
                execute(module)
                _import_layers()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
