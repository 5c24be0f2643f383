# Makes a process by the bare call.
import ctypes
import os

libc = ctypes.CDLL(None)
number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
if libc.syscall(number, 17, 0, 0, 0, 0) == 0:
    os.write(1, b"BREACH\n")
    os._exit(0)
os.wait()
