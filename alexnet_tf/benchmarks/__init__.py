"""How fast are the input and the network, against the machine and other frameworks?

model_throughput     the training step and inference: options, the table of baselines, the report
input_throughput     the input pipeline
rounds               interleaved rounds: who is measured when, each in a process of its own; the table of the rates
tensorflow_workload  this network, stage by stage too, and the matmul peak
pytorch_baseline     the same network in PyTorch
openvino_baseline    the same network in OpenVINO
machine_check        whether everything works on this machine, and what to change
"""
