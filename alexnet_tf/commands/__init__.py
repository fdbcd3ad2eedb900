"""One file for each command of `python -m alexnet_tf`: flags, and one library call."""
