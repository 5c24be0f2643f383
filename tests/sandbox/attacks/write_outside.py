# Appends to a file of its own user.
with open("@VICTIM_FILE@", "a") as file:
    file.write("changed")
