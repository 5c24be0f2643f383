# Leaves a message queue behind.
import ctypes

libc = ctypes.CDLL(None)
queue = libc.msgget(0, 0o600 | 0o1000)
if queue >= 0:
    print("BREACH")
    libc.msgctl(queue, 0, None)
