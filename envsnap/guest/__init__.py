"""What runs in another interpreter than envsnap's: in the environment that is captured, and in the image built from it.

    python -B GUEST collect|compile|gpu|pack|smoke [ARGUMENTS]

GUEST is this directory, carried to wherever that interpreter is. Python >= 3.8, the standard library alone, relative imports.
"""
