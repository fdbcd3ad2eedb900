"""How is a run served, and how does it reach a phone?

    export           writes the artifacts, compares them, reports
    saved_model      for TF Serving
    tflite           for phones and browsers
    tflite_metadata  labels and metadata inside a .tflite file
    serving_client   asks a TF Serving server
"""
