# Sets an inode's flag by ioctl: with another flag, nobody could remove the file.
import fcntl
import struct

with open("own", "w") as file:
    fcntl.ioctl(file, 0x40086602, struct.pack("l", 0x40))  # FS_IOC_SETFLAGS, FS_NODUMP_FL
    print("BREACH")
