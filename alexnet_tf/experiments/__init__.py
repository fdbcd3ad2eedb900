"""Does the paper hold? Its figures and claims, each as one command.

catalogue    the experiments by name, their options and their reports
cifar        CIFAR-10 in memory, and networks trained on it
figure1      ReLU against tanh
comparisons  LRN, pooling, towers, dropout, colour noise, depth
figure3      conv1's kernels
figure4      predictions and nearest images
error_table  one crop and ten, alone and averaged; runs with their images
"""
