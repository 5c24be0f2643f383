# Opens a ring through which calls are made that no filter sees.
import ctypes

if ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(256)) >= 0:
    print("BREACH")
