# Reads the kernel's log.
# control: root (a sysctl may refuse it to others)
import ctypes

if ctypes.CDLL(None).klogctl(10, None, 0) >= 0:
    print("BREACH")
