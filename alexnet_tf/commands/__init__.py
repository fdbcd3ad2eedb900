"""One file for each command of `python -m alexnet_tf`: flags, and one library call.

`cli` and `options` are what all of them share.
"""

import pkgutil

NAMES = [module.name for module in pkgutil.iter_modules(__path__) if module.name not in ("cli", "options")]
