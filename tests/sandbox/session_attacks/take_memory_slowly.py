# Takes memory call by call.
held = [bytearray(150 << 20)]
# --- next call
held.append(bytearray(150 << 20))
# --- next call
held.append(bytearray(150 << 20))
held.append(bytearray(150 << 20))
# --- next call
print("BREACH" if sum(map(len, held)) > 512 << 20 else "")
