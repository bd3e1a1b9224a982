"""The command line. Standard output is data, standard error is talk; exit 0 done, 1 failed, 2 bad usage or config.

Importing it costs nothing: the commands are in commands.py, and `bridge`, whose clients wait for it, begins
without them.
"""
