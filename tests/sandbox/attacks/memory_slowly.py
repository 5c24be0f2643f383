# Takes memory in small pieces.
# control: none (it would take the machine's memory)
hoard = []
while len(hoard) < 1500:
    hoard.append(bytearray(1 << 20))
print("BREACH")
