"""How fast are the input and the network, against the machine and other frameworks?

baselines          the tables of baselines and sweeps, and the check of options
input_throughput   the input pipeline
model_throughput   the training step and inference
layer_profile      multiply-adds, the matmul peak, and the time of each stage
rounds             interleaved rounds: who is measured when
worker_process     a workload in a process of its own
machine_check      whether everything works on this machine, and what to change
report             results as text and JSON
pytorch_network    an architecture as a PyTorch network, with the weights of this one
pytorch_baseline   its speed
openvino_baseline  the same network in OpenVINO
"""
