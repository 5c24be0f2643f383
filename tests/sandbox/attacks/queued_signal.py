# Ends another process by a queued signal.
import ctypes
import os

number = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
information = ctypes.create_string_buffer(128)
ctypes.memmove(information, b"\x0f\0\0\0\0\0\0\0\xff\xff\xff\xff", 12)
ctypes.CDLL(None).syscall(number, int("@VICTIM@"), 15, information)
