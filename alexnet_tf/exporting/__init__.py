"""How is a run served, and how does it reach a phone or a browser?

export             writes the artifacts, compares them, reports
formats            every format by name: a new one is an entry here
options            what can be chosen
export_job         what a format's writer takes and returns
sample_images      what the artifacts are compared and calibrated on
report             report.md and report.json
saved_model        for TF Serving: versions that appear whole
latency            one image's milliseconds, by number of threads
python_latency     the same of the Keras model and the SavedModel
quiet              keeps C++ libraries off the screen
signatures         what a SavedModel offers and refuses
image_guard        what the served graph looks at before it decodes
serving_files      warm-up requests, batching parameters, SERVING.md
serving_client     asks a TF Serving server
tflite             for phones, browsers and small computers
tflite_inspection  what a .tflite file states
keras_file         for Keras itself
onnx_file          for ONNX Runtime, OpenVINO and others
engines            every engine that can run an exported file here
verification       all of them on all exported files, compared with Keras
web                the page that runs it in a browser
web_server         serves that page on this machine
tflite_metadata    labels and metadata inside a .tflite file
"""
