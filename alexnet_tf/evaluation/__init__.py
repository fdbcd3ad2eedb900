"""How wrong is a trained network, and what does it see in images?

metrics            errors over a split, of each class too
error_report       an evaluation as text and as JSON
predictions        the classes of image files, as a person names them, in batches; their text, JSON and CSV
views              feature maps of an image, where the evidence for a class is, and a page of both
learning_curves    the history of runs as a picture
features           activations of a layer for every image, in an HDF5 file
retrieval          the nearest images of such a file
options            what features, similar and predict can be asked for
"""
