"""The registry client: images and artifacts read from and written to OCI and Docker registries over HTTP.

`client` is what others use; below it is one module for each subject: `wire` (connections), `patience` (when to try again), `auth` (tokens
and credentials), `host` (one registry's API: authorised, patient, with errors that name it), `manifests`, `download`, `upload`, `push`
and `referrers`.

Whatever arrives is untrusted: it is held to a size, hashed before it is believed, and never fetched from an unencrypted place but this
machine. Specifications: OCI distribution 1.1, the OCI image specification 1.1, Docker's registry HTTP API v2 and its token authentication.
"""
