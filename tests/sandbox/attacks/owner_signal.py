# Has the kernel send another process a signal: it makes that process the owner of a pipe.
import fcntl
import os

read, write = os.pipe()
fcntl.fcntl(read, 8, int("@VICTIM@"))  # F_SETOWN
fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC)
os.write(write, b"1")
