# Asks for a user namespace with a thread's flag, which a careless filter lets through.
# control: none (the kernel refuses the combination: EINVAL)
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
libc.syscall(number, 0x10000 | 0x10000000, 0, 0, 0, 0)
if ctypes.get_errno() != 1:
    print("BREACH")
