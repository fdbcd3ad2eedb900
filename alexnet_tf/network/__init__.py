"""What is each published AlexNet, as data, as a Keras model and as a picture?

architectures        every published network as an entry of one table
recipes              how its source trained it, and how that adapts to a data set
schedules            the learning rate over a run: tables and state
update_rules         SGD, Adam, AdamW
model                the Keras model: its stages, of one or two layers
alexnet              an entry becomes a functional Keras model
layers               input normalisation, dropout, convolutions of towers
lrn                  local response normalisation, in one pass
xla                  whether XLA works here
cifar_architectures  the networks of the paper's experiments on CIFAR-10
model_summary        shapes, parameters and multiply-adds, without TensorFlow
diagram              the network as a picture
keras_objects        lets Keras load .keras files of these networks
"""
