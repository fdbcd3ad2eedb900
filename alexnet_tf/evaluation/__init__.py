"""How wrong is a trained network, and what does it see in images?

metrics            errors over a split, of each class too
error_report       an evaluation as text and as JSON
predictions        a CSV line for each image
image_arguments    files, folders, globs and lists as a person names images
classification     classes of image files, in batches
grad_cam           feature maps of an image, and where the evidence for a class is
view_pictures      those on a page
learning_curves    the history of runs as a picture
features           activations of a layer for every image, in a file
retrieval          the nearest images of such a file
npz_stream         .npz files larger than memory
"""
