"""AlexNet in TensorFlow and Keras: every published version, from raw images to a served and a mobile model.

Importing this package loads nothing heavy. Start with `alexnet_tf.architectures` (the networks as data) and
`alexnet_tf.alexnet.build_model` (a row of the table as a Keras model).
"""

from alexnet_tf import keras_objects

keras_objects.register_with_keras()

__version__ = "1.0.0"
