"""How do weights come in from other frameworks' files, and go out?

    conversion         weight file to run, and run to weight file
    layouts            what a file's arrays are called and how they are laid out
    containers         .safetensors, .h5, .keras, zip: arrays by name
    restricted_pickle  .npy and .pth files, without running code
    caffemodel         .caffemodel and .binaryproto
    prototxt           an architecture as Caffe's layers
"""
