# Stops itself, to be waited for.
# kind: endless
import os
import time

os.kill(os.getpid(), 19)
time.sleep(1000)
