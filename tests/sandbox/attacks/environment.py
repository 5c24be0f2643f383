# Reads the environment of the process that runs it.
import os

print(dict(os.environ))
