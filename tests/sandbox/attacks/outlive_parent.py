# Undoes what ends it with its server.
import ctypes

if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0:
    print("BREACH")
