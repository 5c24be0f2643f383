# Writes many files without names, which no folder shows.
import os
import time

parts = []
for number in range(40):
    parts.append(os.open(f"part{number}", os.O_CREAT | os.O_RDWR))
    os.unlink(f"part{number}")
    os.write(parts[-1], bytes(2 << 20))
    time.sleep(0.01)
print("BREACH")
