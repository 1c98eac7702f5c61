"""An image as files: an OCI image layout, an archive of one, and the archive that `docker load` reads; written, and read back untrusted."""
