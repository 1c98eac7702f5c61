"""What becomes layers: wheels, packages of Debian, trees and small files, as tar in gzip members whose bytes no compressor decides.

Streams in, streams out: nothing here opens a path, and what is read is untrusted.
"""
