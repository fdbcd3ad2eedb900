"""How do weights come in from other frameworks' files, and go out?

conversion         weight file to run, and run to weight file
formats            the table of formats: endings, layout, reader, writer
layouts            an architecture's arrays in a format's layout, and which architecture a file holds
containers         .safetensors, .h5, .keras, zip: arrays by name
pickled_arrays     .npy and .pth files
restricted_pickle  pickles of arrays, without running what is in them
caffemodel         .caffemodel and .binaryproto
onnx_graph         .onnx
wire_format        protocol buffers, looked over before they are parsed
onnx_pb2           ONNX's messages, generated from onnx.proto
caffe_pb2          Caffe's messages, generated from caffe.proto
prototxt           an architecture as Caffe's layers
"""
