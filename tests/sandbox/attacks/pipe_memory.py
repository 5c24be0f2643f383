# Takes the kernel's memory in pipes.
import fcntl
import os

read, _ = os.pipe()
fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 1 << 20)
print("BREACH")
