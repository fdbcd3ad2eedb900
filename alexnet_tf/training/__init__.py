"""How does a network learn, where, and what is kept?

configure          what is asked for, and the data, become a run's configuration
trainer            a data set, a run's directory and the loop, put together
loop               steps, epochs, checkpoints, exact resume, signals
train_step         one step, compiled, on one device or on many
optimizer          bound, decay, rates, and the update rule
reporter           what is printed
tensorboard        pictures and scalars of a run
distribution       devices, replicas, workers
cluster            which processes train together
transfer_learning  weights of another run; which layers learn
"""
