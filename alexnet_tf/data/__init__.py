"""Which images are there, and how do they become batches?

datasets          DataSet, ImageSource: what a data set is; ImageFiles
options           which examples of a directory are meant
discovery         finds the data set in a directory: the table of layouts
class_folders     splits and classes that are folders
folder_tables     do folders say the classes, or a table beside them?
label_files       labels in a CSV, text or JSON-lines file
text_tables       CSV, TSV, text and JSON lines as rows
labelled_files    which files are images; a list of (path, class, split) becomes a data set
imagenet          ImageNet's own tar files; the classes of its numbered images; words for WordNet ids
pixel_files       CIFAR-10's and MNIST's own files
tfds_datasets     data sets of TFDS
tfrecords         examples inside larger files, by offset
reading           reads blocks of examples, in parallel
synthetic         makes the demo's images
plain_images      every image as an ordinary JPEG or PNG: the header's look, and Pillow for the rest
png_depth         16-bit PNG images whose upper bits are unused
first_look        files that are no images, and images in two splits: notes before training
preprocessing     decode, crop, resize: one image
augmentations     random crops and what is done to them
input_pipeline    order, batches, exact resume
prepare           turns images into records of 256 x 256 pixels
prepare_images    what its processes do: squares, files of records, mean and colour components
"""
