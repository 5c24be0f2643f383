# Makes a folder its root.
# control: root (only root may)
import os

os.chroot("@PUBLIC@")
print("BREACH")
