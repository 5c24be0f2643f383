# Gives a thread descriptors of its own, which /proc shows nowhere but under that thread, and hides files in them.
import ctypes
import os
import threading
import time

CLOSE_RANGE, UNSHARE = 436, 2
libc = ctypes.CDLL(None, use_errno=True)


def hide():
    if libc.syscall(CLOSE_RANGE, ctypes.c_uint(1 << 20), ctypes.c_uint(1 << 20), UNSHARE) != 0:
        return
    for number in range(40):
        part = os.open(f"part{number}", os.O_CREAT | os.O_RDWR)
        os.unlink(f"part{number}")
        os.write(part, bytes(2 << 20))
        time.sleep(0.01)
    print("BREACH")


one = threading.Thread(target=hide)
one.start()
one.join()
