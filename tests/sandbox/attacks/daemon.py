# Leaves a process behind that outlives the run.
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.2)
        open("@PUBLIC@/planted", "w").close()
    os._exit(0)
os.wait()
time.sleep(0.5)
