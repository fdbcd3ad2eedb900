"""Which images are there, and how do they become batches?

    datasets        DataSet, ImageFiles: what a data set is
    discovery       finds the data set in a directory
    tfrecords       TFRecords by offset; data sets of TFDS
    imagenet_tars   ImageNet's own tar files
    synthetic       draws the demo's images
    preprocessing   decode, crop, resize, augment: one image
    input_pipeline  order, batches, exact resume
    prepare         turns images into records of 256 x 256 pixels
"""
