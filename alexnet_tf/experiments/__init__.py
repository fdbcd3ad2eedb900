"""Which of the paper's claims can be seen again, and how clearly?

    report          what an experiment found, as Markdown, JSON, PNG and SVG
    cifar_data      CIFAR-10 in memory: batches, crops, views
    cifar_training  the training loop for images of 32 pixels
    figure1         ReLU against tanh
"""
