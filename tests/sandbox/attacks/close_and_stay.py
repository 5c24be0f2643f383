# Closes its output, so that the reader sees an end, and stays.
# kind: endless
import os
import time

for descriptor in range(64):
    try:
        os.close(descriptor)
    except OSError:
        continue
time.sleep(1000)
