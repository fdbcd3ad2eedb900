"""Changes to a run's config that several tests make."""

import dataclasses

from alexnet_tf.runs.config import RunConfig


def with_precision(config: RunConfig, precision: str) -> RunConfig:
    """Returns a run's config with another precision."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, precision=precision))
