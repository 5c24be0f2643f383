# Holds memory that no limit on address space counts.
import os

image = os.memfd_create("hoard")
os.ftruncate(image, 1 << 20)
print("BREACH")
