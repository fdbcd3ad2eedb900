"""How fast are the input and the network, against the machine and other frameworks?

    input_throughput   the input pipeline
    model_throughput   the training step and inference
    worker_process     interleaved rounds, each workload in a process of its own
    layer_profile      time and multiply-adds by group of layers
    report             results as text and JSON
    pytorch_baseline   the same network in PyTorch
    openvino_baseline  the same network in OpenVINO
"""
