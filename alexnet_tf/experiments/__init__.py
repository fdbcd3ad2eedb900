"""Which of the paper's claims can be seen again, and how clearly?

catalogue       the experiments by name, with the paper's claims
report          what an experiment found, as Markdown, JSON, PNG and SVG
cifar_data      CIFAR-10 in memory: batches, crops, views
cifar_training  the training loop for images of 32 pixels
figure1         ReLU against tanh
figure1_report  its picture, times and ratios
comparisons     networks that differ in one thing: LRN, pooling, towers, dropout, colour noise, depth
figure3         conv1's kernels, and how coloured each tower's are
figure4         predictions, and nearest training images
trained_runs    runs with their images
error_table     errors of runs, and of the average of their predictions
"""
