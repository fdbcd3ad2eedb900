"""What does every wing stand on?

settings      options as dataclasses: argument, flag, help and check in one field
tables        what can be chosen by name, imported when used
errors        mistakes that a user can correct
home          the user's directories
atomic_files  files that appear whole or not at all; directories that one process holds
shell         text for a terminal
plotting      pictures
devices       GPUs, precisions and numeric settings
processors    available CPUs, memory and open files; helper processes
image_limit   how large the file of an image may be
timing        how long a call takes
quiet         standard streams: without the chatter of C++ libraries, and lost ones
report        tables in Markdown
"""
