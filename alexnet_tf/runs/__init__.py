"""What is a run: what it was started with, and what it has reached?

config       what config.json holds
directory    a run's directory: config, classes, checkpoints, history
checkpoints  the file of a checkpoint
"""
