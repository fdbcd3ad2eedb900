"""One training step: the network under its optimizer, compiled once, on one device or on many."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.data import augmentations
from alexnet_tf.network import alexnet, architectures, xla
from alexnet_tf.runs.config import TrainConfig
from alexnet_tf.support import errors
from alexnet_tf.training import distribution, optimizer, transfer_learning


class TrainStep:
    """The network, its optimizer, and the step that moves both.

    Each replica takes its part of the batch; the sum of the gradients is taken before its norm is bounded, so that
    many devices compute what one would.

    Args:
        architecture: The network's.
        config: The recipe, the seed of the weights and the dropout, the precision ("mixed_float16" scales the loss),
            whether XLA compiles the forward and backward pass, and which layers do not learn: nothing is computed
            backwards below the lowest one that does.
        placement: Where to compute.
        mean: What the first layer subtracts; the architecture's by default.
        class_weights: Factor on the loss of each class's examples; None leaves the loss as it is.
        layer_multipliers: As in `optimizer.Optimizer`.
        layer_decays: As in `optimizer.Optimizer`.

    Attributes:
        model: The network.
        variables: All that a step changes: what a checkpoint holds.
    """

    def __init__(
        self,
        architecture: architectures.Architecture,
        config: TrainConfig,
        placement: distribution.Placement | None = None,
        *,
        mean: Any = None,
        class_weights: Sequence[float] | None = None,
        layer_multipliers: Mapping[str, float] | None = None,
        layer_decays: Mapping[str, float] | None = None,
    ):
        self.placement = placement = placement or distribution.make_placement()
        self._strategy, self._batch_size = placement.strategy, config.recipe.batch_size
        self._class_weights = class_weights
        if placement.towers and config.jit:
            raise errors.UserError("--jit does not go with --strategy=split: XLA compiles for one device.")
        placement.check_batch_size(self._batch_size)
        with self._strategy.scope():
            try:
                self.model = alexnet.build_model(
                    architecture,
                    mean=mean,
                    seed=config.seed,
                    precision=config.precision,
                    tower_devices=placement.towers,
                    learns_from=transfer_learning.first_learning_stage(architecture, config.freeze),
                )
            except ValueError as error:
                if placement.towers is None or isinstance(error, errors.UserError):
                    raise
                raise errors.UserError(f"--strategy=split: {error}") from error
            transfer_learning.freeze(self.model, config.freeze)
            inner = optimizer.Optimizer(config.recipe, layer_multipliers, layer_decays)
            self.set_rates, self._optimizer = inner.set_rates, inner
            if config.precision == "mixed_float16":
                self._optimizer = keras.optimizers.LossScaleOptimizer(inner, name="loss_scale")
            self._optimizer.build(self.model.trainable_variables)
        if config.jit:
            compiled = tf.function(self.differentiate, jit_compile=True, autograph=False)
            self.differentiate = compiled  # type: ignore[method-assign]
        self._step = tf.function(self._step, reduce_retracing=True, autograph=False)  # type: ignore[method-assign]

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a step changes: what a checkpoint holds."""
        return [*self.model.variables, *self._optimizer.variables]

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
            # Otherwise workers ask each other before each step whether all have a batch.
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

    def __call__(self, batch: Any, is_stop: bool = False) -> tf.Tensor:
        """Starts one step; a GPU computes while Python goes on, until the result is read.

        Args:
            batch: From `batches`: (images, labels), or ((images, noise), labels).
            is_stop: Whether this worker is asked to stop; all of them hear of it.

        Returns:
            float32 [3], over all devices, before the update: the mean cross-entropy in nats, how many examples have a
            highest logit that is another class, and how many workers are asked to stop.
        """
        return self._strategy.experimental_local_results(self._step(batch, tf.constant(float(is_stop))))[0]

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
        with xla.fused_kernels():
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
