"""How does a network learn, where, and what is kept?

configure          what a run decides before its first step
trainer            the loop: epochs, validation, checkpoints, exact resume
train_step         one step, compiled, on one device or many
state              what a checkpoint holds beside the weights
run_setup          what is settled before the first step
reporter           what is printed
tensorboard        pictures and scalars of a run
optimizer          the paper's SGD
schedules          the learning rate over a run
distribution       devices, replicas, workers
cluster            which processes train together
checkpoint_writer  checkpoints written beside the training
stop_signal        SIGINT and SIGTERM end a run after a step
transfer_learning  weights of another run; which layers learn
"""
