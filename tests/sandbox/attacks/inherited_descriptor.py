# Looks for the secret in every descriptor it was born with.
import os

for descriptor in range(3, 1024):
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        print(os.read(descriptor, 100))
    except OSError:
        continue
