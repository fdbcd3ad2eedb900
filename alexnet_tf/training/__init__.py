"""How does a network learn, where, and what is kept?

    trainer            the loop: epochs, validation, checkpoints, exact resume
    train_step         one step, compiled, on one device or many
    optimizer          the paper's SGD
    schedules          the learning rate over a run
    distribution       devices, replicas, workers
    transfer_learning  weights of another run; which layers learn
    tensorboard        pictures and scalars of a run
"""
