# Takes descriptors until none is left.
import os

taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]
print("BREACH")
