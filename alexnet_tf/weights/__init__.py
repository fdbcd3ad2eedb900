"""How do weights come in from other frameworks' files, and go out?

conversion        weight file to run, and run to .safetensors
pretrained        public ImageNet weights by name: downloaded, checked, kept as a run
download          a file of known content, from where an earlier download stopped
formats           the table of formats: endings and modules, and what a reader returns
guard             reads a file in a process of its own, with limits on memory and time
layouts           what a file's arrays mean: which architecture they fit, conversion to ours and back
caffemodel        .caffemodel and .binaryproto
numpy_file        .npy and .npz
torch_file        .pth
pickles           unpickles arrays and nothing else
safetensors_file  .safetensors, read and written
keras_file        .keras and .weights.h5
onnx_file         .onnx
caffe_pb2         Caffe's messages, generated from caffe.proto
onnx_pb2          ONNX's messages, generated from onnx.proto
"""
