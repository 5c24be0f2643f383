# Reaches for the folder of another rollout that is still open.
import os

other = "@OTHER_FOLDER@"


def enter_and_read(path):
    os.chdir(path)  # not refused, and of no use
    return os.listdir("."), open("note").read()


for path in (other, os.path.join(other, "note"), os.path.join("..", "..", os.path.basename(os.path.dirname(other)))):
    for attempt in (
        os.listdir,
        enter_and_read,
        lambda path: open(path).read(),
        lambda path: open(path, "w"),
        os.unlink,
    ):
        try:
            print("BREACH", attempt(path))
        except OSError:
            continue
