"""Images without an engine: their file system unpacked as an ordinary user, and run with bubblewrap, crun, runc or podman."""
