"""One training step: the network under its optimizer, compiled once, on one device or on many."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data import augmentations
from alexnet_tf.network import alexnet, architectures, recipes
from alexnet_tf.support import errors
from alexnet_tf.training import distribution, optimizer, schedules, transfer_learning


class StepResult:
    """What a step found out about its batch, over all devices, before the update.

    A GPU computes while Python goes on: the first attribute that is read waits for the step.

    Args:
        values: float32 [3]: loss, wrong and is_stop.
    """

    def __init__(self, values: tf.Tensor):
        self._tensor = values

    @functools.cached_property
    def _values(self) -> np.ndarray:
        return self._tensor.numpy()

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return float(self._values[0])

    @property
    def wrong(self) -> int:
        """How many examples have a highest logit that is another class."""
        return int(self._values[1])

    @property
    def is_stop(self) -> bool:
        """Whether any worker asked to stop."""
        return bool(self._values[2])


class TrainStep:
    """The network, its optimizer, and the step that moves both.

    Each replica takes its part of the batch; the sum of the gradients is taken before its norm is bounded, so that
    many devices compute what one would.

    Args:
        architecture: The network's.
        recipe: Batch size over all devices, momentum, decay, and the largest norm of the gradient.
        placement: Where to compute.
        mean: What the first layer subtracts; the architecture's by default.
        seed: Of the weights and the dropout.
        precision: Keras dtype policy; "mixed_float16" scales the loss.
        jit: Whether XLA compiles the forward and backward pass.
        frozen: Names of layers that do not learn; nothing is computed backwards below the lowest one that does.
        layer_multipliers: Factors on the rate of single layers, by name.
        layer_decays: Decay of single layers' kernels, by name, instead of the recipe's.
        class_weights: Factor on the loss of each class's examples; None leaves the loss as it is.

    Attributes:
        model: The network.
        sgd: Its rates are what a schedule sets before a step.
        variables: All that a step changes: what a checkpoint holds.
    """

    def __init__(
        self,
        architecture: architectures.Architecture,
        recipe: recipes.Recipe,
        placement: distribution.Placement | None = None,
        *,
        mean: Any = None,
        seed: int = 0,
        precision: str = "float32",
        jit: bool = False,
        frozen: Sequence[str] = (),
        layer_multipliers: Mapping[str, float] | None = None,
        layer_decays: Mapping[str, float] | None = None,
        class_weights: Sequence[float] | None = None,
    ):
        self.placement = placement = placement or distribution.make_placement()
        self._strategy, self._batch_size = placement.strategy, recipe.batch_size
        self._rates: schedules.Rates | None = None
        self._class_weights = class_weights
        if placement.towers and jit:
            raise errors.UserError("--jit does not go with --strategy=split: XLA compiles for one device.")
        placement.check_batch_size(recipe.batch_size)
        with self._strategy.scope():
            try:
                self.model = alexnet.build_model(
                    architecture,
                    mean=mean,
                    seed=seed,
                    precision=precision,
                    tower_devices=placement.towers,
                    learns_from=transfer_learning.first_learning_stage(architecture, frozen),
                    lrn_implementation="xla",
                )
            except ValueError as error:
                raise errors.UserError(f"--strategy=split: {error}") from error
            transfer_learning.freeze(self.model, frozen)
            self.sgd = optimizer.MomentumSGD(
                recipe.learning_rate,
                momentum=recipe.momentum,
                kernel_decay=recipe.weight_decay,
                clip_norm=recipe.clip_norm,
                layer_multipliers=layer_multipliers,
                layer_decays=layer_decays,
                name="sgd",
            )
            self._optimizer = self.sgd
            if precision == "mixed_float16":
                self._optimizer = keras.optimizers.LossScaleOptimizer(self.sgd, name="loss_scale")
            self._optimizer.build(self.model.trainable_variables)
        if jit:
            compiled = tf.function(self.differentiate, jit_compile=True, autograph=False)
            self.differentiate = compiled  # type: ignore[method-assign]
        self._step = tf.function(self._step, reduce_retracing=True, autograph=False)  # type: ignore[method-assign]

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a step changes: what a checkpoint holds."""
        return [*self.model.variables, *self._optimizer.variables]

    def set_rates(self, rates: schedules.Rates) -> None:
        """Sets the learning rates of the next step; costs nothing where they stay as they are."""
        before, self._rates = self._rates, rates
        if before is None or before.bias_multiplier != rates.bias_multiplier:
            self.sgd.bias_multiplier.assign(rates.bias_multiplier)
        if before is None or before.conv1_multiplier != rates.conv1_multiplier:
            self.sgd.conv1_multiplier.assign(rates.conv1_multiplier)
        if before is None or before.kernels != rates.kernels:
            self.sgd.learning_rate = rates.kernels

    def batches(self, make_dataset: Callable[[int, int], tf.data.Dataset]) -> Iterator:
        """Returns the iterator over a worker's batches, each divided between its devices.

        Args:
            make_dataset: (worker, num_workers) -> data set of this worker's parts of the batches. Many workers must not
                ask for more than it has.
        """

        def make(context):
            dataset = make_dataset(context.input_pipeline_id, context.num_input_pipelines)
            if context.num_replicas_in_sync > context.num_input_pipelines:
                dataset = dataset.rebatch(self._batch_size // context.num_replicas_in_sync)
            # Else workers ask each other before each step whether all have a batch.
            if context.num_input_pipelines > 1:
                dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
            return dataset

        return iter(self._strategy.distribute_datasets_from_function(make))

    def images_of(self, batch: Any) -> tf.Tensor:
        """Returns the images of a batch, of all devices of this worker, as the network sees them."""
        images = batch[0]
        parts = tf.nest.map_structure(
            lambda part: tf.concat(self._strategy.experimental_local_results(part), 0), images
        )
        return augmentations.add_noise(*parts) if isinstance(parts, tuple) else parts

    def __call__(self, batch, is_stop: bool = False) -> StepResult:
        """Starts one step.

        Args:
            batch: From `batches`: (images, labels), or ((images, noise), labels).
            is_stop: Whether this worker is asked to stop; all of them hear of it.
        """
        result = self._strategy.experimental_local_results(self._step(batch, tf.constant(float(is_stop))))[0]
        return StepResult(result)

    def _step(self, batch, stop):
        return self._strategy.run(self._replica_step, (batch, stop))

    def _replica_step(self, batch, stop):
        images, labels = batch
        if isinstance(images, tuple):
            images = augmentations.add_noise(*images)
        context = tf.distribute.get_replica_context()
        loss, wrong, gradients = self.differentiate(images, labels)
        if self.placement.num_replicas > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        self.update(gradients)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([loss, wrong, stop]))

    def update(self, gradients: Sequence[tf.Tensor]) -> None:
        """Takes the sum of all replicas' gradients, in the order of the network's trainable variables; in a graph."""
        self._optimizer.apply(gradients, self.model.trainable_variables)

    def differentiate(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Returns this replica's shares of the loss, of the errors and of the gradients; in a graph.

        Args:
            images: RGB in [0, 255], [batch, size, size, 3].
            labels: int [batch].
        """
        logits = self.model(images, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        if self._class_weights is not None:
            losses *= tf.gather(tf.constant(self._class_weights, tf.float32), labels)
        loss = tf.reduce_sum(losses) / self._batch_size
        wrong = tf.reduce_sum(tf.cast(tf.argmax(logits, -1, output_type=labels.dtype) != labels, tf.float32))
        # A tape's gradients would all land on the first device; these are where the operation is that they belong to.
        gradients = tf.compat.v1.gradients(
            self._optimizer.scale_loss(loss),
            [variable.value for variable in self.model.trainable_variables],
            colocate_gradients_with_ops=True,
        )
        return loss, wrong, gradients
