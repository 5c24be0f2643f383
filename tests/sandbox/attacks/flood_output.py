# Writes without end.
# kind: flood
while True:
    print("x" * 10000)
