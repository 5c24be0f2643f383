# Opens a file by its number on the disk, past every path.
import ctypes
import os
import struct

libc = ctypes.CDLL(None)
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
mount = ctypes.c_int()
number = {"x86_64": 303, "aarch64": 264}[os.uname().machine]
if libc.syscall(number, -100, b"@SECRET_FILE@", handle, ctypes.byref(mount), 0) == 0:
    print("BREACH")
