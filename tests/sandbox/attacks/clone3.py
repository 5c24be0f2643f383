# Makes a process by the newest call.
import ctypes
import os
import struct

arguments = ctypes.create_string_buffer(struct.pack("8Q", 0, 0, 0, 0, 17, 0, 0, 0))
if ctypes.CDLL(None).syscall(435, arguments, 64) == 0:
    os.write(1, b"BREACH\n")
    os._exit(0)
os.wait()
