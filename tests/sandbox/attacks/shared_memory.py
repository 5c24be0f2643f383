# Leaves memory behind that outlives the run.
import ctypes

libc = ctypes.CDLL(None)
segment = libc.shmget(0, 4096, 0o600 | 0o1000)
if segment >= 0:
    print("BREACH")
    libc.shmctl(segment, 0, None)
