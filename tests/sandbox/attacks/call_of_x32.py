# Calls the kernel by the numbers of the x32 ABI, which an allow-list by number alone would miss.
# control: none (few kernels have that ABI)
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(0x40000000 + 57)
print("BREACH")
