"""The documents of images — descriptors, manifests, indexes, configs — read strictly and written canonically.

Specifications: the OCI image specification 1.1 and Docker's manifest v2 schema 2. What is read came from a registry, an engine or a file
and is untrusted; what is written is canonical JSON, so that a digest is a function of the value alone.
"""
