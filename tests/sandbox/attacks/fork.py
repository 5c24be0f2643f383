# Makes a process.
import os

if os.fork() == 0:
    print("BREACH", flush=True)
    os._exit(0)
os.wait()
