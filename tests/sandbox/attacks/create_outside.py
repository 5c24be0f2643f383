# Creates a file in a folder that everybody may write.
open("@PUBLIC@/planted", "w").close()
