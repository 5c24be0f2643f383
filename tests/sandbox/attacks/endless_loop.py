# Never ends.
# kind: endless
while True:
    pass
