"""What does a trained network make of images, and how wrong is it?

    metrics     errors over a split
    features    activations of a layer for every image, in a file
    retrieval   the nearest images of such a file
    npz_stream  .npz files larger than memory
"""
