"""What does every wing stand on?

errors        mistakes that a user can correct
atomic_files  files that appear whole or not at all
shell         text for a terminal
plotting      pictures
devices       GPUs, precisions and numeric settings
processors    available CPUs; helper processes
image_limit   how large the file of an image may be
timing        how long a call takes
"""
