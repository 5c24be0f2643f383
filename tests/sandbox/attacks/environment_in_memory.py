# Reads the environment that the C library keeps, whatever Python shows.
import ctypes

block = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
index = 0
while block and block[index]:
    print(block[index])
    index += 1
