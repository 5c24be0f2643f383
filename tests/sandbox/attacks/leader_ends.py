# Ends its first thread alone, after which /proc shows neither descriptors nor mappings of the process, and goes on.
import ctypes
import os
import threading
import time

EXIT = 60 if os.uname().machine == "x86_64" else 93
libc = ctypes.CDLL(None, use_errno=True)


def hide():
    time.sleep(0.05)
    for number in range(40):
        part = os.open(f"part{number}", os.O_CREAT | os.O_RDWR)
        os.unlink(f"part{number}")
        os.write(part, bytes(2 << 20))
        time.sleep(0.01)
    os.write(1, b"BREACH")
    os._exit(0)


threading.Thread(target=hide).start()
libc.syscall(EXIT, 0)
