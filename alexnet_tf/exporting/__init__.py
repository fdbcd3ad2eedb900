"""How is a run served, and how does it reach a phone or a browser?

formats          every format by name, and what can be chosen: a new one is an entry here
export           writes the artifacts, compares them, reports
sample_images    what the artifacts are compared and calibrated on
report           report.md and report.json
saved_model      for TF Serving: versions that appear whole, with warm-up requests and SERVING.md
signatures       what a SavedModel offers and refuses
image_guard      what the served graph looks at before it decodes
serving_client   asks a TF Serving server
tflite           for phones, browsers and small computers
tflite_metadata  labels and metadata inside a .tflite file
keras_file       for Keras itself
onnx_file        for ONNX Runtime, OpenVINO and others
web              a page that runs it in a browser, and its server
engines          every engine that runs an exported file here, compared with Keras
"""
