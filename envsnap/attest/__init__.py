"""What is said of an image beside it, and who vouches for it: bill of materials, provenance, verdicts, signatures, and their carriers.

Pure values: bytes in, bytes out; registries are `envsnap.registry`'s. Formats: CycloneDX 1.6, in-toto Statement 1 with SLSA provenance 1
and test-result 0.1, DSSE 1, cosign's signatures by key, OCI image specification 1.1 for artifacts.
"""
