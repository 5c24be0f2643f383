# Takes more memory than it may.
block = bytearray(600 << 20)
print("BREACH")
